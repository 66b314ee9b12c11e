"""What depends on a user: the rows that would lose whom they name, or that forbid the user to go.

They are found in the tables' own keys, so that those of the upper floor and of a project count as well. A row that its
key deletes along (a link that was sent, a membership, the tokens' ledger) is none of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from django.db import models
from django.db.models import QuerySet

from external_apis.models import Account, Tenant
from external_apis.models.base import HistoryContext
from external_apis.tenancy import EVERYTHING, Scope

__all__ = ["Dependents", "count_dependents", "dependents_of", "has_foreign_ones"]

# These go along, or outlive the user on purpose. All other keys would lose whom they name, or forbid it.
_LEFT_ALONE = (models.CASCADE, models.DO_NOTHING)


class Dependents(NamedTuple):
    """Rows of one table that name the user in a ``field``, which is one of the account or else of Django's user."""

    rows: QuerySet[Any]
    field: str
    is_of_account: bool

    def foreign(self, tenant_id: str | None) -> QuerySet[Any]:
        """Those that are not of a tenant; nothing is foreign to somebody who is bound to none."""
        return self.rows.exclude(tenant_id=tenant_id) if self._are_bound(tenant_id) else self.rows.none()

    def own(self, tenant_id: str | None) -> QuerySet[Any]:
        return self.rows.filter(tenant_id=tenant_id) if self._are_bound(tenant_id) else self.rows

    def _are_bound(self, tenant_id: str | None) -> bool:
        fields = self.rows.model._meta.concrete_fields
        has_tenant = any(field.name == "tenant" and field.related_model is Tenant for field in fields)
        return has_tenant and tenant_id is not None


def dependents_of(account: Account) -> Iterator[Dependents]:
    for row in (account, account.user):
        for relation in row._meta.get_fields(include_hidden=True):
            if not isinstance(relation, models.ManyToOneRel) or relation.on_delete in _LEFT_ALONE:
                continue
            model = relation.related_model
            if not issubclass(model, HistoryContext):  # history names its actor in a column of its own as well
                rows = model._base_manager.filter(**{relation.field.name: row})
                yield Dependents(rows, relation.field.name, isinstance(row, Account))


def count_dependents(account: Account, scope: Scope = EVERYTHING) -> dict[str, int]:
    """Return how many rows of which kind depend on a user; those that the scope does not see are not among them."""
    found: Counter[str] = Counter()
    for dependents in dependents_of(account):
        rows = dependents.own(scope.tenant_id)
        found[str(rows.model._meta.verbose_name_plural)] += rows.count()
    return {kind: count for kind, count in sorted(found.items()) if count}


def has_foreign_ones(account: Account, tenant_id: str | None) -> bool:
    """Whether rows depend on a user that are not of a tenant."""
    return any(dependents.foreign(tenant_id).exists() for dependents in dependents_of(account))
