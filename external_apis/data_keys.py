"""Data keys: one for each tenant and one for the global rows, random, stored sealed under a master key.

Opened ones are kept in this process's memory alone. `DataKeys.writing` looks at the database at most once a second for
a tenant, so that a replaced or shredded key, and a retired master key, are soon noticed; `DataKeys.opening` twice a
minute for a key. The tables are reached through the app registry: they stand above the field that needs this.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

from django.apps import apps
from django.db import connection, transaction
from django.db.models import Exists, Q

from external_apis.crypto import KEY_BYTES, Form, Key, Sealed
from external_apis.errors import UnknownKey, Unreadable, VaultError
from external_apis.ids import new_id
from external_apis.key_registry import hold_writing_key, replace_retired_key
from external_apis.keyring import keyring, master_key

WRITING_SECONDS = 1.0
OPENING_SECONDS = 30.0


def identity(data_key_id: str) -> str:
    """Name the place that a data key is sealed for."""
    return f"external_apis.datakey:{data_key_id}:wrapped"


def unwrap(data_key_id: str, wrapped: bytes) -> Key:
    """Open a stored data key. Raises `UnknownKey` for a missing master key and `Unreadable` for damage."""
    sealed = Sealed(wrapped)
    return Key(data_key_id, master_key(sealed.key_id).open(sealed, identity(data_key_id)), Form.UNDER_DATA_KEY)


def wrap_new() -> tuple[str, bytes]:
    """Make a data key; return its id and the key sealed under the writing master key, which the caller holds."""
    key_id = new_id("dk")
    return key_id, bytes(keyring().seal(os.urandom(KEY_BYTES), identity(key_id)))


def key_of(sealed: Sealed) -> Key:
    """Return the key, master or data key, that opens a value. Raises `UnknownKey` and `Unreadable`."""
    if sealed.form == Form.UNDER_MASTER_KEY:
        return master_key(sealed.key_id)
    return data_keys().opening(sealed.key_id)


@lru_cache(maxsize=1)
def data_keys() -> DataKeys:
    """The opened data keys of this process."""
    return DataKeys()


@dataclass(frozen=True)
class _Held:
    key: Key
    until: float


@dataclass(frozen=True)
class _Writing(_Held):
    master_key_id: str


@dataclass(frozen=True, eq=False)
class _OnceCommitted:
    """A key found inside a transaction, which may be one that the transaction made and that goes with it.

    Django keeps the callback exactly as long as the (sub)transaction that it was registered in may still be committed;
    until then it serves that transaction alone.
    """

    kept: dict[str | None, _Writing]
    tenant_id: str | None
    held: _Writing

    def __call__(self) -> None:
        self.kept[self.tenant_id] = self.held


class DataKeys:
    """Opened data keys by id, and by the tenant that is written for. ``clock`` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._opening: dict[str, _Held] = {}
        self._writing: dict[str | None, _Writing] = {}

    def opening(self, key_id: str) -> Key:
        """Return a data key by its id. Raises `UnknownKey`, and `Unreadable` for one that was shredded."""
        held = self._opening.get(key_id)
        if held is None or held.until < self._clock():
            held = self._load(key_id)
        return held.key

    def writing(self, tenant_id: str | None) -> Key:
        """Return the key that a tenant's secrets are sealed under now, made where there is none yet.

        Raises `RetiredKey` where this process has an old keyring.
        """
        held = self._held_for_writing(tenant_id)
        if held is None or held.until < self._clock() or held.master_key_id != keyring().writing_key_id:
            held = self._find(tenant_id)
            if connection.in_atomic_block:
                transaction.on_commit(_OnceCommitted(self._writing, tenant_id, held))
            else:
                self._writing[tenant_id] = held
        return held.key

    def hold(self, tenant_id: str | None) -> None:
        """Keep the key that a tenant's secrets are sealed under from being shredded until the transaction ends.

        A key that was shredded while this process still held it is let go, and the next one is made.
        """
        if tenant_id is None:
            return  # what belongs to nobody is never shredded
        table = connection.ops.quote_name(apps.get_model("external_apis", "DataKey")._meta.db_table)
        statement = f"SELECT 1 FROM {table} WHERE id = %s AND shredded_at IS NULL FOR KEY SHARE"  # noqa: S608 (quoted)
        with connection.cursor() as cursor:
            cursor.execute(statement, [self.writing(tenant_id).id])
            while cursor.fetchone() is None:
                self.forget()
                cursor.execute(statement, [self.writing(tenant_id).id])

    def is_empty(self) -> bool:
        """Tell whether this process has opened no key yet: then whoever reads rows had better read keys with them."""
        return not self._opening

    def learn(self, wrapped: Iterable[tuple[str, bytes]]) -> None:
        """Open keys that a query brought along. One that does not open is left to `opening`, which says why."""
        for key_id, sealed in wrapped:
            with suppress(VaultError):
                self._opening[key_id] = _Held(unwrap(key_id, sealed), self._clock() + OPENING_SECONDS)

    def forget(self) -> None:
        """Drop every opened key, those of open transactions included."""
        self._opening = {}
        self._writing = {}

    def _held_for_writing(self, tenant_id: str | None) -> _Writing | None:
        return next(self._uncommitted(tenant_id), None) or self._writing.get(tenant_id)

    def _uncommitted(self, tenant_id: str | None) -> Iterator[_Writing]:
        for _, callback, *_ in reversed(connection.run_on_commit):
            if (
                isinstance(callback, _OnceCommitted)
                and callback.kept is self._writing
                and callback.tenant_id == tenant_id
            ):
                yield callback.held

    def _find(self, tenant_id: str | None) -> _Writing:
        table = apps.get_model("external_apis", "DataKey")
        master_keys = apps.get_model("external_apis", "EncryptionKey").objects
        retired = master_keys.filter(pk=keyring().writing_key_id, retired_at__isnull=False)
        current = table.objects.filter(tenant_id=tenant_id, replaced_at=None, shredded_at=None)
        row = current.annotate(is_master_key_retired=Exists(retired)).first()
        if row is None:
            row = self._make(table, tenant_id)
        elif row.is_master_key_retired:
            replace_retired_key()
            return self._find(tenant_id)
        key = self._hold(row)
        return _Writing(key, self._clock() + WRITING_SECONDS, keyring().writing_key_id)

    def _make(self, table: Any, tenant_id: str | None) -> Any:
        with transaction.atomic():
            hold_writing_key()
            key_id, wrapped = wrap_new()
            row, _ = table.objects.get_or_create(
                tenant_id=tenant_id, replaced_at=None, shredded_at=None, defaults={"id": key_id, "wrapped": wrapped}
            )
            return row

    def _load(self, key_id: str) -> _Held:
        """Load a key, and with it the global rows' keys: a tenant's connection mostly stands at a global provider."""
        # Shredded since, or gone with a transaction: what is not found again is not to be remembered.
        self._opening.pop(key_id, None)
        found = None
        for row in apps.get_model("external_apis", "DataKey").objects.filter(Q(pk=key_id) | Q(tenant_id=None)):
            if row.pk == key_id:
                found = row
            elif row.wrapped is not None:
                self._hold(row)
        if found is None:
            raise UnknownKey(
                f"The value is sealed under data key {key_id!r}, which this database does not hold.",
                details={"key_id": key_id},
            )
        if found.wrapped is None:
            raise Unreadable(
                f"The value was sealed under data key {key_id!r}, which was destroyed together with all secrets of its "
                "tenant.",
                details={"key_id": key_id},
            )
        self._hold(found)
        return self._opening[key_id]

    def _hold(self, row: Any) -> Key:
        key = unwrap(row.pk, row.wrapped)
        self._opening[row.pk] = _Held(key, self._clock() + OPENING_SECONDS)
        return key

    def __repr__(self) -> str:
        return f"<DataKeys: {len(self._opening)} opened>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("Opened data keys are not pickled.")
