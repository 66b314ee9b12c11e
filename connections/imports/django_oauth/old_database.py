"""The PostgreSQL database in which the old tables stand: another one by its URL, or this installation's own.

Always a connection apart from Django's: what is locked or read there ends with its own transaction, and the password
stays in here.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg
from django.db import connection as own
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from connections.imports.any_text import AnyText
from connections.imports.database_urls import KEEPALIVES, parts_of, without_password
from external_apis.errors import InvalidInput, ServiceUnavailable

__all__ = ["OWN", "Address", "Session", "columns_of", "identify", "may_change", "open_session", "users_of"]

Session = psycopg.Connection[dict[str, Any]]

_CONNECT_SECONDS = 5
_TIMEOUTS = "SET lock_timeout = '5s'; SET idle_in_transaction_session_timeout = '10min'; SET statement_timeout = '60s'"
_DJANGOS_OWN = frozenset({"context", "cursor_factory", "prepare_threshold", "connection_class", "row_factory"})
_TEXTS = ("text", "varchar", "bpchar", "name")
_ANY_BYTES = "SQL_ASCII"


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
def open_session(address: Address, *, seconds: float | None = None) -> Iterator[Session]:
    """Open a connection, closed at the end, and cut off when it was open for ``seconds``; what was not committed then
    is gone.

    Raises `ServiceUnavailable`, at the opening and later, where the database is away or refuses what is asked.
    """
    cut = threading.Event()
    parameters = {**KEEPALIVES, **address.parameters(), "connect_timeout": _CONNECT_SECONDS}
    try:
        with psycopg.connect(**parameters, row_factory=dict_row) as session, _cut_off_after(seconds, session, cut):
            for name in _TEXTS:
                session.adapters.register_loader(name, AnyText)
            session.execute(_TIMEOUTS)
            if session.info.parameter_status("server_encoding") == _ANY_BYTES:  # as UTF-8 it would refuse to answer
                session.execute(f"SET client_encoding = '{_ANY_BYTES}'")
            session.commit()
            try:
                yield session
            finally:
                if not session.closed:
                    session.rollback()
    except psycopg.Error as error:
        if cut.is_set():
            raise ServiceUnavailable(
                f"The old database ({address.describe()}) was not done within {seconds:g} seconds."
            ) from None
        raise ServiceUnavailable(f"The old database ({address.describe()}) fails: {_said(error, address)}") from None


@contextmanager
def _cut_off_after(seconds: float | None, session: Session, cut: threading.Event) -> Iterator[None]:
    """Shut the socket when the time is up: a server that is frozen keeps it open, and hears no cancellation either."""

    def shut() -> None:
        cut.set()
        with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(session.fileno())) as end:
            end.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds or 0, shut)
    if seconds is not None:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def identify(session: Session, address: Address, *tables: str) -> str:
    """Name the database and the schemas of these tables: the same by whatever host, port or replica it is reached.

    Where the role may not ask the cluster who it is, the address has to do.
    """
    may = session.execute("SELECT has_function_privilege('pg_control_system()', 'EXECUTE') AS may").fetchone()
    if not may or not may["may"]:
        return address.describe()
    row = session.execute(
        "SELECT system_identifier, (SELECT oid FROM pg_database WHERE datname = current_database()) AS database, "
        "(SELECT string_agg(DISTINCT relnamespace::text, ',') FROM pg_class "
        "WHERE oid IN (SELECT to_regclass(name) FROM unnest(%s::text[]) AS name)) AS schemas FROM pg_control_system()",
        [list(tables)],
    ).fetchone()
    return address.describe() if row is None else "/".join(str(value) for value in row.values())


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
