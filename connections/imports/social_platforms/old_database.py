"""The two tables in a PostgreSQL database, each one read-only snapshot: a server-side cursor, a few rows at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.postgres import types
from psycopg.rows import RowMaker

from connections.imports.any_text import AnyText, is_text
from connections.imports.database_urls import KEEPALIVES, parts_of, without_password
from connections.imports.social_platforms.sources import Read, Reference
from external_apis.errors import InvalidInput, ServiceUnavailable

__all__ = ["ACCOUNTS", "PLATFORMS", "OldDatabase"]

PLATFORMS, ACCOUNTS = "social_platform", "social_platform_account"

_ROWS_AT_ONCE = 50
"""A row may hold megabytes."""
_CONNECT_SECONDS = 10
# All else is loaded as text: what PostgreSQL holds and Python or JSON cannot ('infinity', the year 20000, a number of
# 6,000 digits, a range) is one row's problem, found when that row is read, and not the end of the whole cursor.
_AS_THEY_ARE = frozenset({"bool", "int2", "int4", "int8", "float4", "float8"})
_OF_UNKNOWN_TYPE = 0
_JSON_TYPES = frozenset(oid for name in ("json", "jsonb") for oid in (types[name].oid, types[name].array_oid))
_ANY_BYTES = "SQL_ASCII"

_REFERENCES: LiteralString = """
WITH targets AS (SELECT to_regclass(name) AS oid, name FROM unnest(%(tables)s::text[]) AS name),
pointers AS (
    SELECT c.conrelid AS oid, a.attname AS column, t.name AS target, true AS is_foreign_key
    FROM pg_constraint c
    JOIN targets t ON t.oid = c.confrelid
    JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = ANY(c.conkey)
    WHERE c.contype = 'f' AND c.conparentid = 0
    UNION ALL
    SELECT a.attrelid, a.attname,
        CASE WHEN a.attname ~ 'account' THEN %(accounts)s ELSE %(platforms)s END, false
    FROM pg_attribute a
    WHERE a.attnum > 0 AND NOT a.attisdropped
        AND a.attname ~ '^(social_)?(platform|platform_account|account)_ids?$' AND a.attname <> 'account_id'
)
SELECT n.nspname || '.' || r.relname, p.column, p.target, bool_or(p.is_foreign_key), max(r.reltuples)::bigint
FROM pointers p
JOIN pg_class r ON r.oid = p.oid AND r.relkind IN ('r', 'p') AND NOT r.relispartition
JOIN pg_namespace n ON n.oid = r.relnamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
    AND r.oid NOT IN (SELECT oid FROM targets WHERE oid IS NOT NULL)
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3
"""


class OldDatabase:
    """The tables at a URL. Its ``repr`` shows no password.

    Left out of the URL, the password is libpq's to find: in ``PGPASSWORD`` or ``~/.pgpass``.
    """

    def __init__(self, url: str) -> None:
        self._conninfo: dict[str, Any] = {
            **KEEPALIVES,
            "connect_timeout": _CONNECT_SECONDS,
            **parts_of(url),
            "client_encoding": "UTF8",
        }
        self.description = _described(self._conninfo)

    def check(self) -> None:
        with self._reading() as connection:
            if not _exists(connection, PLATFORMS):
                raise InvalidInput(f"{self.description} has no table {PLATFORMS}.")

    def platforms(self) -> Iterator[Read]:
        with self._reading() as connection:
            yield from _rows(connection, sql.SQL("SELECT * FROM {} ORDER BY id").format(sql.Identifier(PLATFORMS)), [])

    def accounts(self, after: Mapping[str, Any]) -> Iterator[Read]:
        table, last = sql.Identifier(ACCOUNTS), after.get("id")
        with self._reading() as connection:
            if not _exists(connection, ACCOUNTS):
                return
            if last is not None:
                past = sql.SQL("SELECT * FROM {} WHERE id <= %s ORDER BY id").format(table)
                yield from _rows(connection, past, [last], is_past=True)
                rest = sql.SQL("SELECT * FROM {} WHERE id > %s ORDER BY id").format(table)
                yield from _rows(connection, rest, [last])
            else:
                yield from _rows(connection, sql.SQL("SELECT * FROM {} ORDER BY id").format(table), [])

    def count_accounts(self) -> int | None:
        with self._reading() as connection:
            if not _exists(connection, ACCOUNTS):
                return 0
            found = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(ACCOUNTS))).fetchone()
        return None if found is None else int(found[0])

    def references(self) -> list[Reference]:
        names = {"tables": [PLATFORMS, ACCOUNTS], "platforms": PLATFORMS, "accounts": ACCOUNTS}
        with self._reading() as connection:
            found = connection.execute(_REFERENCES, names).fetchall()
        return [Reference(_legible(table), _legible(column), *facts) for table, column, *facts in found]

    def __repr__(self) -> str:
        return f"<OldDatabase {self.description}>"

    @contextmanager
    def _reading(self) -> Iterator[psycopg.Connection[Any]]:
        try:
            connection = psycopg.connect(**self._conninfo)
        except psycopg.Error as error:
            raise InvalidInput(f"{self.description} cannot be reached: {self._reason(error)}") from None
        try:
            connection.read_only = True
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.execute("SET LOCAL datestyle TO ISO")
            if connection.info.parameter_status("server_encoding") == _ANY_BYTES:  # as UTF-8 it refuses to answer
                connection.execute(f"SET LOCAL client_encoding TO {_ANY_BYTES}")
            for oid in (_OF_UNKNOWN_TYPE, *(known.oid for known in types if known.name not in _AS_THEY_ARE)):
                connection.adapters.register_loader(oid, AnyText)
            yield connection
        except psycopg.OperationalError as error:
            raise ServiceUnavailable(f"{self.description} was lost: {self._reason(error)}") from None
        except psycopg.Error as error:
            raise InvalidInput(f"{self.description} cannot be read: {self._reason(error)}") from None
        finally:
            connection.close()

    def _reason(self, error: psycopg.Error) -> str:
        lines = str(error).strip().splitlines()
        reason = lines[0] if lines else type(error).__name__
        return without_password(reason, self._conninfo.get("password", ""))


def _rows(
    connection: psycopg.Connection[Any], query: sql.Composed, values: list[Any], *, is_past: bool = False
) -> Iterator[Read]:
    with connection.cursor("import_rows", row_factory=_old_rows) as cursor:
        cursor.itersize = _ROWS_AT_ONCE
        cursor.execute(query, values)
        position: dict[str, Any] = {"id": values[0]} if values else {}
        for row, problem in cursor:
            if row.get("id") is not None:
                row["id"] = str(row["id"])
                if is_text(row["id"]):  # else nothing that could be stored: the rows from the last one on come again
                    position = {"id": row["id"]}
            yield Read(row, position, problem, is_past=is_past)


def _old_rows(cursor: psycopg.Cursor[Any]) -> RowMaker[tuple[dict[str, Any], str]]:
    """Make rows by the names of their columns, with what is wrong with them; JSON is what it says, whatever it is."""
    columns: list[tuple[str, bool]] = []
    if (result := cursor.pgresult) is not None:
        for number in range(result.nfields):
            # Not the cursor's description, which is of ASCII alone in SQL_ASCII.
            name = (result.fname(number) or b"").decode("utf-8", "surrogateescape")
            columns.append((name, result.ftype(number) in _JSON_TYPES))

    def made(values: Sequence[Any]) -> tuple[dict[str, Any], str]:
        row, problem = {}, ""
        for (name, is_json), value in zip(columns, values, strict=True):
            try:
                row[name] = _decoded(value) if is_json else value
            except (ValueError, RecursionError):
                problem = f"{name} is no JSON that can be read"
        return row, problem

    return made


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    return None if value is None else json.loads(value)


def _legible(name: str) -> str:
    """A name for people to read, with a mark for each byte that is no text."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _exists(connection: psycopg.Connection[Any], table: str) -> bool:
    found = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [table]).fetchone()
    return bool(found and found[0])


def _described(conninfo: Mapping[str, Any]) -> str:
    port = f":{conninfo['port']}" if conninfo.get("port") else ""
    return f"postgresql://{conninfo.get('host') or 'localhost'}{port}/{conninfo.get('dbname') or ''}"
