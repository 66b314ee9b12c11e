"""Whoever sent a key or a token made from one: what the REST layers know of an asker who is no signed-in user."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar

from external_apis import scopes
from external_apis.models.api_keys import KeyMode, KeyType
from external_apis.tenancy import Scope

ADMIN_KEY_ID = "ADMIN_API_KEY"
"""Stands where a stored key has its id."""


@dataclass(frozen=True)
class KeyHolder:
    """The rights of one key. Without a tenant they hold for the whole installation, without a mode for both.

    ``rate_limit`` is the key's own, in requests an hour, or None for the usual one. It quacks like a user, so that
    permissions and tenancy ask it what they ask a user; a superuser only as the holder of ``ADMIN_API_KEY``.
    """

    key_id: str
    title: str
    type: str = KeyType.SECRET
    mode: str | None = None
    tenant_id: str | None = None
    scopes: frozenset[str] = frozenset((scopes.EVERY_SCOPE,))
    rate_limit: int | None = None
    allowed_networks: tuple[str, ...] = ()
    expires_at: datetime | None = None

    pk: ClassVar[None] = None
    is_authenticated: ClassVar[bool] = True
    is_active: ClassVar[bool] = True
    is_anonymous: ClassVar[bool] = False

    @property
    def actor(self) -> str:
        """How histories and the audit log name it."""
        return f"key:{self.key_id}"

    @property
    def is_superuser(self) -> bool:
        return self.key_id == ADMIN_KEY_ID

    @property
    def is_staff(self) -> bool:
        """A publishable key opens nothing but what is public."""
        return self.type == KeyType.SECRET

    @property
    def external_apis_scope(self) -> Scope:
        """Whose rows it sees; `tenancy.scope_of` asks for it."""
        is_sandbox = None if self.mode is None else self.mode == KeyMode.TEST
        return Scope(self.tenant_id, is_sandbox, reads_credentials=self.has_scope("credentials:read"))

    def has_scope(self, scope: str) -> bool:
        return self.is_staff and scopes.grants(self.scopes, scope)

    def has_perm(self, permission: str, obj: Any = None) -> bool:
        """Whether the scopes stand for Django's ``app_label.codename``."""
        return self.is_staff and (scopes.EVERY_SCOPE in self.scopes or permission in self._permissions)

    @cached_property
    def _permissions(self) -> frozenset[str]:
        return scopes.permissions_of(self.scopes)

    def __str__(self) -> str:
        return self.actor


ADMIN = KeyHolder(ADMIN_KEY_ID, ADMIN_KEY_ID)
"""The holder of the installation's own key: every scope, every tenant, both modes."""
