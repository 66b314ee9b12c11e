"""Who sees which row.

A row with neither tenant nor partner is global: operators of the whole installation see all rows; somebody bound to
a tenant sees the tenant's own rows, and of the global ones only the provider definitions, which carry no account.
Whoever holds a key sees either the sandbox's providers and connections or the others, as the key's mode says.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from django.db import models
from django.db.models import Q

from external_apis.errors import InvalidInput

_Model = TypeVar("_Model", bound=models.Model)


@dataclass(frozen=True)
class Scope:
    """``tenant_id`` None means the whole installation, ``is_sandbox`` None both the sandbox and what is live.

    A key that may not read credentials does not say either where those that are stored are sent.
    """

    tenant_id: str | None = None
    is_sandbox: bool | None = None
    reads_credentials: bool = True

    def own(self, rows: models.QuerySet[_Model]) -> models.QuerySet[_Model]:
        """Rows that may be read and changed."""
        rows = self._of_mode(rows)
        return rows if self.tenant_id is None else rows.filter(tenant_id=self.tenant_id)

    def readable(self, rows: models.QuerySet[_Model]) -> models.QuerySet[_Model]:
        """Own rows, and definitions that belong to nobody in particular."""
        rows = self._of_mode(rows)
        if self.tenant_id is None:
            return rows
        return rows.filter(Q(tenant_id=self.tenant_id) | Q(tenant_id=None, partner_id=None))

    def owns(self, row: Any) -> bool:
        return self.tenant_id is None or row.tenant_id == self.tenant_id

    def sandbox_flag(self, given: bool | None) -> bool:
        """Return ``is_sandbox`` of a provider that is made or changed here: ``given``, and the key's own otherwise.

        Raises `InvalidInput` for the other one, which whoever asks could not see afterwards.
        """
        if self.is_sandbox is None or given in (None, self.is_sandbox):
            return bool(self.is_sandbox if given is None else given)
        message = "a test key deals with sandbox providers alone, a live key with the others"
        raise InvalidInput.of("is_sandbox", message)

    def _of_mode(self, rows: models.QuerySet[_Model]) -> models.QuerySet[_Model]:
        path = None if self.is_sandbox is None else _sandbox_path(rows.model)
        return rows if path is None else rows.filter(**{path: self.is_sandbox})


EVERYTHING = Scope()


def scope_of(user: Any) -> Scope:
    """Return the scope of whoever asks: of a key its own, of a user the tenant of the user's `Account`.

    Superusers are bound to none.
    """
    scope = getattr(user, "external_apis_scope", None)
    if scope is not None:
        return scope  # type: ignore[no-any-return]
    if user.is_superuser:
        return EVERYTHING
    account = getattr(user, "external_apis_account", None)
    return Scope(account.tenant_id) if account is not None else EVERYTHING


@lru_cache(maxsize=256)
def _sandbox_path(model: type[models.Model]) -> str | None:
    """Return the look-up that tells whether a row is of the sandbox: its own column, or that of its provider."""
    # An AI model names its provider and connection, and has no foreign keys to them.
    fields = model._meta.concrete_fields
    names = {field.name for field in fields if field.is_relation or isinstance(field, models.BooleanField)}
    for name, path in (
        ("is_sandbox", "is_sandbox"),
        ("external_api", "external_api__is_sandbox"),
        ("connection", "connection__external_api__is_sandbox"),
    ):
        if name in names:
            return path
    return None
