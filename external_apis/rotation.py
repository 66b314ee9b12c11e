"""Bring every sealed value under today's keys while the product is in use.

A secret is sealed under its tenant's data key and the data keys are sealed under the writing master key, so that
rotating the master key reseals a few rows; values that an earlier version sealed directly under a master key, and those
of a replaced data key, are resealed one by one. Every change is an UPDATE on condition of the old bytes and takes only
rows that nobody has locked: a concurrent change wins, nobody waits for long, and a run that was killed is repeated.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.apps import apps
from django.db import connection, models, transaction
from django.db.models import F, Value
from django.utils import timezone
from psycopg import sql

from external_apis import audit
from external_apis.crypto import Form, Sealed
from external_apis.data_keys import WRITING_SECONDS, DataKeys, identity, key_of, wrap_new
from external_apis.errors import UnknownKey, Unreadable
from external_apis.fields import SecretsField
from external_apis.key_registry import hold_writing_key, register_writing_key
from external_apis.keyring import keyring, master_key
from external_apis.models import DataKey, EncryptionKey

__all__ = [
    "BATCH_SIZE",
    "Census",
    "Column",
    "Progress",
    "columns",
    "replace_data_keys",
    "reseal",
    "retire_keys",
    "rewrap_data_keys",
    "rewrapped",
    "rotate",
    "take_census",
    "unfinished_keys",
]

BATCH_SIZE = 1_000
_PASSES = 20
_PAUSE_SECONDS = 0.25


@dataclass(frozen=True)
class Column:
    """An encrypted column of a table."""

    model: type[models.Model]
    field: SecretsField

    def __str__(self) -> str:
        return f"{self.model._meta.label}.{self.field.name}"


@dataclass(frozen=True)
class Progress:
    """One batch of a column: rows looked at, resealed, left to somebody who holds them, and those that do not open."""

    column: Column
    seen: int
    resealed: int
    busy: int
    unreadable: Sequence[str]


@dataclass(frozen=True)
class Census:
    """What is sealed under which key.

    ``rows`` counts by column and key, ``wrapped`` data keys by master key. ``old`` are the keys that today's writers
    no longer use: a master key over rows or other than the writing one over data keys, a replaced data key.
    ``destroyed`` are the keys of shredded tenants: nothing under them is readable.
    """

    rows: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrapped: Counter[str] = field(default_factory=Counter)
    damaged: Counter[str] = field(default_factory=Counter)
    old: frozenset[str] = frozenset()
    masters: frozenset[str] = frozenset()
    destroyed: frozenset[str] = frozenset()

    @property
    def remaining(self) -> int:
        """How many rows and data keys are not yet under today's keys."""
        rows = sum(count for (_, key_id), count in self.rows.items() if key_id in self.old)
        return rows + sum(count for key_id, count in self.wrapped.items() if key_id in self.old)

    def by_key(self) -> dict[str, int]:
        """Count rows and data keys by the key that seals them."""
        total: Counter[str] = Counter(self.wrapped)
        for (_, key_id), count in self.rows.items():
            total[key_id] += count
        return dict(sorted(total.items()))


def columns() -> list[Column]:
    """Every encrypted column of every installed app; a table that several models share counts once."""
    return [
        Column(model, column)
        for model in apps.get_models(include_auto_created=True)
        if model._meta.managed and not model._meta.proxy
        for column in model._meta.local_concrete_fields
        if isinstance(column, SecretsField)
    ]


def take_census() -> Census:
    """Count by key, from the values' headers alone."""
    census = Census()
    masters = set()
    for column in columns():
        for form, key_id, count in _headers(column.model._meta.db_table, str(column.field.column)):
            if key_id is None:
                census.damaged[str(column)] += count
            else:
                census.rows[str(column), key_id] += count
                masters |= {key_id} if form == Form.UNDER_MASTER_KEY else set()
    for _, key_id, count in _headers(DataKey._meta.db_table, "wrapped"):
        census.wrapped[key_id or "damaged"] += count
    replaced = set(DataKey.objects.exclude(replaced_at=None).filter(shredded_at=None).values_list("pk", flat=True))
    old = masters | replaced | (set(census.wrapped) - {keyring().writing_key_id})
    destroyed = frozenset(DataKey.objects.exclude(shredded_at=None).values_list("pk", flat=True))
    return Census(census.rows, census.wrapped, census.damaged, frozenset(old), frozenset(masters), destroyed)


def rewrap_data_keys() -> int:
    """Seal every data key under the writing master key; return how many were under another one.

    Raises `RetiredKey`, and `VaultError` for a data key that does not open.
    """
    count = 0
    for key_id, wrapped in DataKey.objects.exclude(wrapped=None).values_list("pk", "wrapped"):
        old = Sealed(bytes(wrapped or b""))
        if old.key_id != keyring().writing_key_id:
            with transaction.atomic():
                hold_writing_key()
                new = rewrapped(key_id, old)
                count += DataKey.objects.filter(pk=key_id, wrapped=bytes(old)).update(wrapped=bytes(new))
    return count


def rewrapped(key_id: str, wrapped: Sealed) -> Sealed:
    """Return a data key sealed under the writing master key. Raises `UnknownKey` and `Unreadable`."""
    plain = master_key(wrapped.key_id).open(wrapped, identity(key_id))
    return keyring().seal(plain, identity(key_id))


def replace_data_keys() -> bool:
    """Give every tenant and the global rows a new data key, in one transaction; the old ones go on reading.

    Passes over the owners of `unfinished_keys`, whose rows come first; tells whether a key was made.
    """
    waiting = {key.tenant_id for key in unfinished_keys()}
    with transaction.atomic():
        hold_writing_key()
        keys = DataKey.objects.select_for_update().filter(replaced_at=None, shredded_at=None)
        ready = [key for key in keys if key.tenant_id not in waiting]
        for old in ready:
            old.replaced_at = timezone.now()
            old.save(update_fields=["replaced_at"])
            key_id, wrapped = wrap_new()
            DataKey.objects.create(pk=key_id, tenant_id=old.tenant_id, wrapped=wrapped)
    return bool(ready)


def unfinished_keys() -> list[DataKey]:
    """Return the replaced data keys, with their tenants, that rows are still sealed under."""
    in_use = {key_id for _, key_id in take_census().rows}
    replaced = DataKey.objects.filter(pk__in=in_use, shredded_at=None).exclude(replaced_at=None)
    return list(replaced.select_related("tenant").order_by("pk"))


def reseal(
    column: Column,
    keys: DataKeys,
    batch_size: int = BATCH_SIZE,
    *,
    leave: Collection[str] = (),
    tenant_id: str | None = None,
) -> Iterator[Progress]:
    """Reseal the rows of a column (of one tenant) that are not under today's key, batch by batch by primary key.

    Values under the keys of ``leave`` stay as they are.

    Raises `RetiredKey`. A row that does not open is reported and left as it is.
    """
    rows = column.model._base_manager.order_by("pk").exclude(**{f"{column.field.name}__isnull": True})
    tenant = column.field.tenant_attname
    if tenant_id is not None:
        rows = rows.filter(**{tenant: tenant_id}) if tenant else rows.none()
    owner = F(tenant) if tenant else Value(None, output_field=models.CharField())
    last = None
    while batch := list(
        (rows if last is None else rows.filter(pk__gt=last)).values_list("pk", owner, column.field.attname)[:batch_size]
    ):
        last = batch[-1][0]
        yield _reseal_batch(column, keys, batch, leave)


def retire_keys() -> list[str]:
    """Mark the master keys that seal nothing any more; return their ids. The start demands them no longer.

    Whoever makes a data key holds the master key's row until it is committed, and rows are never sealed under a master
    key: what the census has not seen when the row is locked cannot come later.
    """
    retired = []
    others = EncryptionKey.objects.filter(retired_at=None).exclude(pk=keyring().writing_key_id)
    for key_id in others.values_list("pk", flat=True):
        with transaction.atomic():
            key = EncryptionKey.objects.select_for_update(no_key=True).get(pk=key_id)
            if key.pk not in take_census().by_key():
                key.retired_at = timezone.now()
                key.save(update_fields=["retired_at"])
                audit.record("encryption_keys.retired", key)
                retired.append(key.pk)
    return retired


def rotate(batch_size: int = BATCH_SIZE, *, with_data_keys: bool = False) -> Iterator[Progress]:
    """Bring everything under today's keys, in several passes where rows are locked by others.

    Ends with rows left over only where they do not open, or stay locked. Raises `RetiredKey`, and `VaultError` for a
    data key that does not open.
    """
    with transaction.atomic():
        # Before the first of many transactions: without the event nothing is rotated.
        register_writing_key()
        facts = {"encryption_key": keyring().writing_key_id, "with_data_keys": with_data_keys}
        audit.record_about("encryption_keys.rotated", "encryptionkey", keyring().writing_key_id, facts)
    settled_at = time.monotonic()
    if with_data_keys and replace_data_keys():
        # Processes that have not noticed yet write under the replaced keys for so long.
        settled_at = time.monotonic() + WRITING_SECONDS + _PAUSE_SECONDS
    rewrap_data_keys()
    # Apart from what other threads of this process may still hold.
    keys = DataKeys()
    shredded = frozenset(DataKey.objects.exclude(shredded_at=None).values_list("pk", flat=True))
    for number in range(_PASSES):
        time.sleep(_PAUSE_SECONDS * bool(number))
        unreadable = 0
        for column in columns():
            for progress in reseal(column, keys, batch_size, leave=shredded):
                yield progress
                unreadable += len(progress.unreadable)
        if time.monotonic() >= settled_at and take_census().remaining <= unreadable:
            return


# --- parts --------------------------------------------------------------------------------------------------------


def _reseal_batch(
    column: Column, keys: DataKeys, batch: Sequence[tuple[Any, Any, Sealed]], leave: Collection[str]
) -> Progress:
    changes: list[tuple[Any, bytes, bytes]] = []
    unreadable = []
    label = column.model._meta.label_lower
    for pk, tenant_id, sealed in batch:
        place = f"{label}:{pk}:{column.field.name}"
        try:
            if sealed.key_id not in leave and sealed.key_id != (key := keys.writing(tenant_id)).id:
                changes.append((pk, bytes(sealed), bytes(key.seal(key_of(sealed).open(sealed, place), place))))
        except (UnknownKey, Unreadable):
            unreadable.append(str(pk))
    resealed = _store(column, changes) if changes else 0
    return Progress(column, len(batch), resealed, len(changes) - resealed, unreadable)


def _store(column: Column, changes: Sequence[tuple[Any, bytes, bytes]]) -> int:
    """Swap old bytes for new ones where the old ones still stand and nobody holds the row."""
    key = column.model._meta.pk
    key_type = sql.SQL(str(key.rel_db_type(connection)))
    statement = sql.SQL(
        "WITH free AS (SELECT {pk} AS pk FROM {table} WHERE {pk} = ANY(%s::{type}[]) FOR NO KEY UPDATE SKIP LOCKED) "
        "UPDATE {table} SET {column} = new.sealed "
        "FROM free JOIN unnest(%s::{type}[], %s::bytea[], %s::bytea[]) AS new (pk, old, sealed) USING (pk) "
        "WHERE {table}.{pk} = free.pk AND {table}.{column} = new.old"
    ).format(
        pk=sql.Identifier(str(key.column)),
        table=sql.Identifier(column.model._meta.db_table),
        column=sql.Identifier(str(column.field.column)),
        type=key_type,
    )
    keys, old, new = (list(values) for values in zip(*changes, strict=True))
    with connection.cursor() as cursor:
        cursor.execute(statement, [keys, keys, old, new])
        return int(cursor.rowcount)


def _headers(table: str, column: str) -> list[tuple[int | None, str | None, int]]:
    """Count the values of a column by form and key id; both None for what has no readable header."""
    statement = sql.SQL(
        "SELECT CASE WHEN fine THEN get_byte(value, 0) END, "
        "CASE WHEN fine THEN encode(substring(value FROM 3 FOR get_byte(value, 1)), 'escape') END, count(*) "
        "FROM (SELECT {column} AS value, CASE WHEN length({column}) < 2 THEN false "
        "ELSE get_byte({column}, 0) IN (1, 2) AND length({column}) > 2 + get_byte({column}, 1) END AS fine "
        "FROM {table} WHERE {column} IS NOT NULL) AS sealed GROUP BY 1, 2"
    ).format(column=sql.Identifier(column), table=sql.Identifier(table))
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())
