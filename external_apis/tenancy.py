"""Who sees which row.

A row with neither tenant nor partner is global: operators of the whole installation see all rows; somebody bound to
a tenant sees the tenant's own rows, and of the global ones only the provider definitions, which carry no account.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from django.db import models
from django.db.models import Q

_Model = TypeVar("_Model", bound=models.Model)


@dataclass(frozen=True)
class Scope:
    """``tenant_id`` None means the whole installation."""

    tenant_id: str | None = None

    def own(self, rows: models.QuerySet[_Model]) -> models.QuerySet[_Model]:
        """Rows that may be read and changed."""
        return rows if self.tenant_id is None else rows.filter(tenant_id=self.tenant_id)

    def readable(self, rows: models.QuerySet[_Model]) -> models.QuerySet[_Model]:
        """Own rows, and definitions that belong to nobody in particular."""
        if self.tenant_id is None:
            return rows
        return rows.filter(Q(tenant_id=self.tenant_id) | Q(tenant_id=None, partner_id=None))

    def owns(self, row: Any) -> bool:
        return self.tenant_id is None or row.tenant_id == self.tenant_id


EVERYTHING = Scope()


def scope_of(user: Any) -> Scope:
    """Return the scope of a signed-in user: the tenant of the user's `Account`, superusers excepted."""
    if user.is_superuser:
        return EVERYTHING
    account = getattr(user, "external_apis_account", None)
    return Scope(account.tenant_id) if account is not None else EVERYTHING
