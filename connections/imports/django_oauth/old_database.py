"""The PostgreSQL database in which the old tables stand: another one by its URL, or this installation's own.

Always a connection apart from Django's: what is locked or read there ends with its own transaction, and the password
stays in here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from django.db import connection as own
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from connections.imports.database_urls import parts_of, without_password
from external_apis.errors import InvalidInput, ServiceUnavailable

__all__ = ["OWN", "Address", "Session", "columns_of", "may_change", "open_session", "users_of"]

Session = psycopg.Connection[dict[str, Any]]

_CONNECT_SECONDS = 5
_TIMEOUTS = "SET lock_timeout = '5s'; SET idle_in_transaction_session_timeout = '10min'; SET statement_timeout = '60s'"
_DJANGOS_OWN = frozenset({"context", "cursor_factory", "prepare_threshold", "connection_class", "row_factory"})


@dataclass(frozen=True)
class Address:
    """Where the old tables are; without a ``url`` in this installation's own database. It shows no password."""

    url: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str) -> Address:
        """Raises `InvalidInput`, which does not repeat the URL, for anything but the URL of a PostgreSQL database."""
        if not parts_of(url).get("dbname"):
            raise InvalidInput(
                "The database URL is not that of a PostgreSQL database, such as postgresql://user@host:5432/name."
            )
        return cls(url)

    def describe(self) -> str:
        """Say where it is, with neither user nor password."""
        if not self.url:
            return "this installation's own database"
        parts = conninfo_to_dict(self.url)
        schema = f" ({parts['options']})" if parts.get("options") else ""
        return f"{parts.get('host') or 'local'}:{parts.get('port') or 5432}/{parts['dbname']}{schema}"

    def parameters(self) -> dict[str, Any]:
        """Return what a connection is opened with, the password among it."""
        if self.url:
            return {**conninfo_to_dict(self.url), "client_encoding": "UTF8"}
        return {name: value for name, value in own.get_connection_params().items() if name not in _DJANGOS_OWN}


OWN = Address()


@contextmanager
def open_session(address: Address) -> Iterator[Session]:
    """Open a connection, closed at the end; what was not committed then is gone.

    Raises `ServiceUnavailable`, at the opening and later, where the database is away or refuses what is asked.
    """
    try:
        with psycopg.connect(
            **{**address.parameters(), "connect_timeout": _CONNECT_SECONDS}, row_factory=dict_row
        ) as session:
            session.execute(_TIMEOUTS)
            session.commit()
            try:
                yield session
            finally:
                if not session.closed:
                    session.rollback()
    except psycopg.Error as error:
        raise ServiceUnavailable(f"The old database ({address.describe()}) fails: {_said(error, address)}") from None


def columns_of(session: Session, table: str) -> dict[str, str]:
    """Return a table's columns and their types; empty where the search path leads to no such table."""
    rows = session.execute(
        "SELECT attname, format_type(atttypid, NULL) AS type FROM pg_attribute "
        "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
        [table],
    )
    return {row["attname"]: row["type"] for row in rows}


def users_of(session: Session, table: str) -> tuple[str, str, dict[str, str]] | None:
    """Return the table that a table's ``user_id`` points at, its key's column, and its columns.

    The name is quoted as SQL wants it. None where no foreign key tells, and there is no ``auth_user`` either.
    """
    found = session.execute(
        "SELECT c.confrelid::regclass::text AS name, k.attname AS key FROM pg_constraint c "
        "JOIN pg_attribute f ON f.attrelid = c.conrelid AND f.attnum = c.conkey[1] "
        "JOIN pg_attribute k ON k.attrelid = c.confrelid AND k.attnum = c.confkey[1] "
        "WHERE c.conrelid = to_regclass(%s) AND c.contype = 'f' AND cardinality(c.conkey) = 1 "
        "AND f.attname = 'user_id'",
        [table],
    ).fetchone()
    name, key = (found["name"], found["key"]) if found else ("auth_user", "id")
    columns = columns_of(session, name)
    return (name, key, columns) if key in columns else None


def may_change(session: Session, table: str) -> bool:
    """Whether this role may change a table's rows, and so lock them; on a replica nobody may."""
    row = session.execute(
        "SELECT has_table_privilege(to_regclass(%s), 'UPDATE') AND current_setting('transaction_read_only') = 'off' "
        "AS may",
        [table],
    ).fetchone()
    return bool(row and row["may"])


def _said(error: psycopg.Error, address: Address) -> str:
    """Return an error's first line, which of a statement never is the one that quotes values."""
    lines = (error.diag.message_primary or str(error)).splitlines()
    password = str(address.parameters().get("password") or "")
    return without_password(lines[0] if lines else type(error).__name__, password)
