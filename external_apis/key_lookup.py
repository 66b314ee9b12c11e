"""From what was sent to the stored key and its rights, in one query, which does the same work whether it is found."""

from __future__ import annotations

import hmac
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from ipaddress import ip_address, ip_network
from time import monotonic
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import connection, models

from external_apis.key_digests import SECRET_ID, digest, open_secret
from external_apis.key_format import is_well_formed, public_part
from external_apis.key_holder import KeyHolder
from external_apis.models import Account, ApiKey, DigestSecret, Tenant

__all__ = ["StoredKey", "find_by_id", "find_by_token", "find_many", "forget", "is_configured"]

_NO_DIGEST = bytes(32)
_REMEMBERED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class StoredKey:
    """What decides about a key; the digest has done its part and is not among it."""

    id: str
    title: str
    type: str
    mode: str
    tenant_id: str | None
    scopes: list[str]
    allowed_networks: list[str]
    rate_limit: int | None
    expires_at: datetime | None
    revoked_at: datetime | None
    is_tenant_active: bool
    is_owner_active: bool

    def problem(self, now: datetime) -> str:
        """Say why it does not work at this moment, in words for its holder; "" when it does."""
        if self.revoked_at is not None and self.revoked_at <= now:
            return "The API key has been revoked."
        if self.expires_at is not None and self.expires_at <= now:
            return "The API key has expired."
        if not self.is_tenant_active:
            return "The tenant of the API key is inactive."
        if not self.is_owner_active:
            return "The owner of the API key is inactive."
        return ""

    def allows(self, address: str | None) -> bool:
        """Whether it may be used from an address; with no networks given, from everywhere."""
        if not self.allowed_networks:
            return True
        try:
            peer = ip_address(address or "")
        except ValueError:
            return False
        return any(peer in ip_network(network) for network in self.allowed_networks)

    @property
    def holder(self) -> KeyHolder:
        return KeyHolder(
            self.id,
            self.title,
            self.type,
            self.mode,
            self.tenant_id,
            frozenset(self.scopes),
            self.rate_limit,
            tuple(self.allowed_networks),
            self.expires_at,
        )


def find_by_token(token: str) -> StoredKey | None:
    """Return the key that was sent, or None; one that is mistyped is not looked for. Raises `VaultError`."""
    if not is_well_formed(token):
        return None
    row = _fetch("public_part", public_part(token))
    if row is None:
        return None
    *facts, stored_digest, sealed_secret = row
    found = digest(token, open_secret(bytes(sealed_secret)))
    is_same = hmac.compare_digest(found, bytes(stored_digest or _NO_DIGEST))
    return StoredKey(*facts) if is_same and stored_digest else None


def find_by_id(key_id: str) -> StoredKey | None:
    row = _fetch("id", key_id)
    return StoredKey(*row[:-2]) if row is not None and row[0] is not None else None


def find_many(key_ids: Collection[str]) -> dict[str, StoredKey]:
    """Return those of the keys that there are, by id, in one query."""
    with connection.cursor() as cursor:
        cursor.execute(_statement("id", is_many=True), [list(key_ids), SECRET_ID])
        return {row[0]: StoredKey(*row[:-2]) for row in cursor.fetchall() if row[0] is not None}


def is_configured() -> bool:
    """Whether there is any key at all that could be sent: ``ADMIN_API_KEY``, or one in the database.

    That there was one is remembered for a minute, so that wrong keys cost no query each.
    """
    if settings.ADMIN_API_KEY:
        return True
    memory = _memory()
    if memory.seen_until < monotonic() and ApiKey.objects.exists():
        memory.seen_until = monotonic() + _REMEMBERED_SECONDS
    return memory.seen_until >= monotonic()


def forget() -> None:
    """Drop what this process remembers of `is_configured`."""
    _memory.cache_clear()


class _Memory:
    seen_until = 0.0


@lru_cache(maxsize=1)
def _memory() -> _Memory:
    return _Memory()


def _fetch(column: str, value: str) -> tuple[Any, ...] | None:
    """Return the columns of `StoredKey`, digest and sealed digest secret: nulls for a key that there is not, and
    None where no key has ever been made."""
    with connection.cursor() as cursor:
        cursor.execute(_statement(column), [value, SECRET_ID])
        row: tuple[Any, ...] | None = cursor.fetchone()
    return row


@lru_cache(maxsize=3)
def _statement(column: str, *, is_many: bool = False) -> str:
    # By hand, and with subqueries: the ORM takes three times as long as the query, and planning joins longer than it.
    # The left join gives a row for an unknown key as well.
    return f"""
SELECT k.id, k.title, k.type, k.mode, k.tenant_id, k.scopes, k.allowed_networks, k.rate_limit, k.expires_at,
  k.revoked_at, coalesce((SELECT is_active FROM {_table(Tenant)} WHERE id = k.tenant_id), true), {_is_owner_active()},
  k.digest, d.secrets
FROM {_table(DigestSecret)} d LEFT JOIN {_table(ApiKey)} k ON k.{column} = {"ANY(%s)" if is_many else "%s"}
WHERE d.id = %s"""  # noqa: S608 (names of our own tables)


def _is_owner_active() -> str:
    """A project's own user may have no such column: then all are active."""
    user = get_user_model()
    if all(field.name != "is_active" for field in user._meta.concrete_fields):
        return "true"
    owner = f"SELECT user_id FROM {_table(Account)} WHERE id = k.owner_id"  # noqa: S608
    row = f"SELECT {_column(user, 'is_active')} FROM {_table(user)} WHERE {_column(user, 'pk')} = ({owner})"  # noqa: S608
    return f"coalesce(({row}), true)"


def _table(model: type[models.Model]) -> str:
    return connection.ops.quote_name(model._meta.db_table)


def _column(model: type[models.Model], name: str) -> str:
    field: Any = model._meta.pk if name == "pk" else model._meta.get_field(name)
    return connection.ops.quote_name(field.column)
