"""Restore a backup into an empty database: the whole file is checked before anything is written; all or nothing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from django.core.management import call_command
from django.db import connection, transaction
from django.db.models.functions import Coalesce, Now
from django.utils import timezone
from psycopg import sql

from external_apis import audit
from external_apis.backup import dump, frames, key_file
from external_apis.backup.container import Reader
from external_apis.backup.key_file import KeptKey
from external_apis.backup.tables import Table, non_empty, shipped_migrations, stored_tables
from external_apis.crypto import Form, Sealed
from external_apis.data_keys import data_keys, unwrap
from external_apis.errors import Conflict, InvalidInput, Unreadable
from external_apis.key_registry import hold_writing_key
from external_apis.keyring import keyring, master_key
from external_apis.models import DataKey, EncryptionKey

__all__ = ["restore"]


@dataclass
class _Content:
    """What the first reading found.

    ``data_keys`` tells by id whether the key was shredded already; ``master_keys`` are those that seal a row directly.
    """

    columns: dict[str, list[str]] = field(default_factory=dict)
    rows: Counter[str] = field(default_factory=Counter)
    data_keys: dict[str, bool] = field(default_factory=dict)
    master_keys: set[str] = field(default_factory=set)


def restore(path: Path, passphrase: str, *, accept_lost_keys: bool = False) -> Counter[str]:
    """Restore into the empty database of this process, migrating it first; return the rows by table.

    Nothing is changed by a wrong passphrase, a damaged file, one of another release, or keys that are missing: each
    raises `InvalidInput` or `VaultError`; a database that holds rows raises `Conflict`. With ``accept_lost_keys`` data
    keys that are nowhere to be found count as shredded.
    """
    tables = stored_tables()
    is_bare = not connection.introspection.table_names()
    _refuse_filled(tables)
    try:
        with path.open("rb") as file:
            content = _check(file, passphrase, {table.name: table for table in tables})
            keys = _find_keys(content, accept_lost_keys=accept_lost_keys)
            call_command("migrate", interactive=False, verbosity=0)
            # What migrations of other apps put into a database that had no table, as the sites of django.contrib.sites.
            made = frozenset(non_empty(tables) if is_bare else ())
            file.seek(0)
            with transaction.atomic(durable=True):
                _lock(tables)  # somebody may have begun to use the database since
                _refuse_filled(tables, made)
                _fill(file, passphrase, tables, content, made)
                _put_keys(keys, content.master_keys)
                audit.record_about("backup.restored", "backup", path.name[:100], {"rows": content.rows.total()})
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from None
    data_keys().forget()
    return content.rows


def _refuse_filled(tables: list[Table], made: frozenset[str] = frozenset()) -> None:
    if filled := [name for name in non_empty(tables) if name not in made]:
        raise Conflict(f"This database is not empty, {filled[0]} holds rows: a backup is restored into an empty one.")


# --- the first reading --------------------------------------------------------------------------------------------


def _check(file: BinaryIO, passphrase: str, tables: Mapping[str, Table]) -> _Content:
    content = _Content()
    table, rest = tables[DataKey._meta.db_table], b""
    for kind, payload in frames.read(Reader(file, passphrase).chunks()):
        if kind == frames.DATA:
            *lines, rest = (rest + payload).split(b"\n")
            for line in lines:
                _look_at(line.decode(), table, content)
        elif kind == frames.TABLE:
            table, rest = tables[_json(payload)["name"]], b""
        elif kind == frames.MANIFEST:
            content.columns = _columns(_json(payload), tables)
        elif Counter(_json(payload)["rows"]) != content.rows:  # a Counter's zero is as good as nothing
            raise InvalidInput("The backup does not hold as many rows as it says.")
    return content


def _columns(manifest: Mapping[str, Any], tables: Mapping[str, Table]) -> dict[str, list[str]]:
    if manifest["version"] != dump.VERSION:
        raise InvalidInput(f"The backup's content is of version {manifest['version']}, not {dump.VERSION}.")
    ours, theirs = ({tuple(entry) for entry in entries} for entries in (shipped_migrations(), manifest["migrations"]))
    for app, name in sorted(ours ^ theirs):
        whose = "this release" if (app, name) in ours else "the backup"
        raise InvalidInput(
            f"The backup was made by another release: only {whose} has the migration {app}.{name}. Restore it with "
            "that release, then upgrade."
        )
    columns = {entry["name"]: entry["columns"] for entry in manifest["tables"]}
    if unknown := sorted(set(columns) - set(tables)):
        raise InvalidInput(f"The backup holds a table {unknown[0]} that this installation does not have.")
    return columns


def _look_at(line: str, table: Table, content: _Content) -> None:
    content.rows[table.name] += 1
    if table.name == DataKey._meta.db_table or table.sealed_columns:
        values = dict(zip(content.columns[table.name], line.split("\t"), strict=True))
        if table.name == DataKey._meta.db_table:
            content.data_keys[values["id"]] = values["shredded_at"] != "\\N"
        content.master_keys.update(*(_master_keys(values[column]) for column in table.sealed_columns))


def _master_keys(value: str) -> set[str]:
    """The master key that seals a value (COPY's text of a ``bytea``) directly; none for a damaged value."""
    try:
        sealed = Sealed(bytes.fromhex(value.removeprefix("\\\\x")))
        is_direct = sealed.form == Form.UNDER_MASTER_KEY
    except (ValueError, Unreadable):
        return set()
    return {sealed.key_id} if is_direct else set()


def _find_keys(content: _Content, *, accept_lost_keys: bool) -> dict[str, KeptKey]:
    for key_id in content.master_keys:
        master_key(key_id)
    kept = key_file.read()
    keys = {}
    for key_id, is_shredded in content.data_keys.items():
        key = KeptKey(None, None) if is_shredded else kept.get(key_id)
        if key is None and not accept_lost_keys:
            raise InvalidInput(
                f"The data key {key_id} of this backup is not in BACKUP_KEYS_FILE: put the newest copy of that file "
                "back. (--accept-lost-keys restores without the secrets under it.)"
            )
        keys[key_id] = key or KeptKey(None, None)
        if key and key.wrapped is not None:
            unwrap(key_id, key.wrapped)
    return keys


def _json(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        raise InvalidInput("The backup does not hold what it should.") from None


# --- the second reading -------------------------------------------------------------------------------------------


def _lock(tables: list[Table]) -> None:
    names = sql.SQL(", ").join(sql.Identifier(table.name) for table in tables if not table.is_made_by_migrate)
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(names))


def _fill(file: BinaryIO, passphrase: str, tables: list[Table], content: _Content, made: frozenset[str]) -> None:
    with connection.cursor() as cursor:
        for table in tables:
            if table.is_made_by_migrate or table.name in made:
                cursor.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table.name)))
        with ExitStack() as current:
            for kind, payload in frames.read(Reader(file, passphrase).chunks()):
                if kind == frames.TABLE:
                    current.close()
                    name = _json(payload)["name"]
                    copy = current.enter_context(cursor.cursor.copy(_copy_statement(name, content.columns[name])))
                elif kind == frames.DATA:
                    copy.write(payload)
        for table in tables:
            _advance_sequences(cursor, table)


def _copy_statement(name: str, columns: list[str]) -> sql.Composed:
    return sql.SQL("COPY {} ({}) FROM STDIN (ENCODING 'UTF8')").format(
        sql.Identifier(name), sql.SQL(", ").join(map(sql.Identifier, columns))
    )


def _advance_sequences(cursor: Any, table: Table) -> None:
    """Go past the restored ids; by ``nextval``, because the product's role may do no more."""
    for sequence in connection.introspection.get_sequences(cursor, table.name):
        statement = sql.SQL(
            "SELECT count(nextval({name})) FROM generate_series(1, (SELECT coalesce(max({column}), 0) FROM {table}) - "
            "(SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}))"
        ).format(
            name=sql.Literal(sequence["name"]),
            sequence=sql.Identifier(sequence["name"]),
            column=sql.Identifier(sequence["column"]),
            table=sql.Identifier(table.name),
        )
        cursor.execute(statement)


def _put_keys(keys: Mapping[str, KeptKey], master_keys: set[str]) -> None:
    """Join the data keys to their rows, and retire master keys that sealed something only when the backup was made."""
    for key_id, key in keys.items():
        if key.wrapped is not None:
            DataKey.objects.filter(pk=key_id).update(wrapped=key.wrapped, kept_at=Coalesce("kept_at", Now()))
        else:
            DataKey.objects.filter(pk=key_id, shredded_at=None).update(shredded_at=timezone.now())
    in_use = master_keys | {Sealed(key.wrapped).key_id for key in keys.values() if key.wrapped is not None}
    others = EncryptionKey.objects.exclude(pk__in=in_use | set(keyring().key_ids))
    others.filter(retired_at=None).update(retired_at=timezone.now())
    hold_writing_key()
