"""The limits of a database connection, as PostgreSQL itself tells them."""

from __future__ import annotations

import pytest
from django.core.management import call_command
from django.core.management.commands import migrate
from django.db import connection

from config import postgres


def _limit() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        return str(cursor.fetchone()[0])


@pytest.mark.django_db
def test_statements_have_a_limit() -> None:
    assert _limit() == "10s"


@pytest.mark.django_db(transaction=True)
def test_migrations_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(migrate.Command, "handle", lambda *args, **options: seen.append(_limit()))
    call_command("migrate")
    assert seen == ["0"]
    assert _limit() == "10s"


def test_the_options_of_the_url_go_before_ours() -> None:
    given = postgres.options("-c statement_timeout=5 -c search_path=x")["options"]
    assert given == "-c statement_timeout=10000 -c statement_timeout=5 -c search_path=x"
