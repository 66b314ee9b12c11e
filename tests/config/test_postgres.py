"""The limits of a database connection, as PostgreSQL itself tells them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db import connection
from psycopg_pool import ConnectionPool

from config import postgres
from tests.config.conftest import Installation

SHOW = """
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("SHOW statement_timeout")
    print(cursor.fetchone()[0])
"""


@pytest.mark.django_db
def test_a_commands_statements_take_their_time() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone()[0] == "0"


@pytest.mark.parametrize("module", ["config.wsgi", "config.celery"])
def test_those_of_a_serving_process_have_a_limit(installation: Installation, module: str) -> None:
    servers = installation.serve()
    status, output = installation.run("-c", f"import {module}, django; django.setup()\n{SHOW}")
    servers.communicate(timeout=30)
    assert (status, output.split()[-1]) == (0, "10s"), output


def test_the_options_of_the_url_go_before_ours() -> None:
    given = postgres.options("-c statement_timeout=5 -c search_path=x", 10_000)["options"]
    assert given == "-c statement_timeout=10000 -c statement_timeout=5 -c search_path=x"


@pytest.fixture
def link() -> Iterator[postgres.BoundedConnection]:
    known = connection.get_connection_params()
    names = {name: known[name] for name in ("host", "port", "user", "password", "dbname") if known.get(name)}
    with postgres.BoundedConnection.connect(autocommit=True, **names) as opened:
        yield opened


@pytest.mark.django_db
def test_one_that_answered_just_now_is_not_asked_whether_it_still_does(
    link: postgres.BoundedConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    execute = psycopg.Connection.execute

    def ask(self: psycopg.Connection[Any], query: str) -> Any:
        asked.append(query)
        return execute(self, query)

    monkeypatch.setattr(psycopg.Connection, "execute", ask)
    for count in (1, 2):
        link._answered_at -= 2
        ConnectionPool.check_connection(link)
        ConnectionPool.check_connection(link)
        assert asked == [""] * count
    link.execute("SELECT 1")
    assert asked == ["", "", "SELECT 1"]


@pytest.mark.django_db(transaction=True)
def test_one_that_the_server_has_ended_meanwhile_is_found_out(link: postgres.BoundedConnection) -> None:
    link.execute("SELECT 1")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [link.info.backend_pid])
    with pytest.raises(psycopg.OperationalError):
        ConnectionPool.check_connection(link)
    link.close()
    with pytest.raises(psycopg.OperationalError):
        ConnectionPool.check_connection(link)
