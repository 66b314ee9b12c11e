"""Imports at once, whichever they are: what one of them has stored meanwhile, the others see."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection

from connections.imports import refresh_tokens
from connections.models import ExternalApiConnection
from tests.connections.imports.old_oauth_tables import OldTables, old_tables
from tests.connections.imports.social_platform_files import write
from tests.factories import make_provider, make_tenant
from tests.grants import oauth2_config

TOKENS = {"access_token": "a", "refresh_token": "of-one-grant"}


@pytest.fixture
def copies() -> Iterator[list[OldTables]]:
    """The tables of Django's libraries, and a copy of them."""
    with ExitStack() as stack:
        made = [stack.enter_context(old_tables(name)) for name in ("one", "its_copy")]
        for tables in made:
            tables.social(tables.user("ada"), "theirs", "ada", TOKENS)
        yield made


def answers(command: str, *arguments: object) -> str:
    out = io.StringIO()
    try:
        with suppress(CommandError):
            call_command(command, *map(str, arguments), "--apply", "--json", stdout=out, stderr=io.StringIO())
    finally:
        connection.close()
    return out.getvalue()


@pytest.mark.django_db(transaction=True)
def test_nobody_over_there_waits_for_another_import(copies: list[OldTables], monkeypatch: pytest.MonkeyPatch) -> None:
    """An import that waits for its turn has none of the old system's rows."""
    make_provider(slug="theirs", environment="development", api_config=oauth2_config("http://127.0.0.1:9"))
    real, turns = refresh_tokens.let_nobody_else_store, []

    def wait() -> None:
        turns.append(copies[0].one("SELECT id FROM social_auth_usersocialauth FOR UPDATE NOWAIT"))
        real()

    monkeypatch.setattr(refresh_tokens, "let_nobody_else_store", wait)
    answers("import_django_oauth", "--create-users", "--trust-emails", "--database-url", copies[0].url)
    assert ExternalApiConnection.objects.count() == 1
    assert len(turns) > 2


@pytest.mark.django_db(transaction=True)
def test_one_grant_becomes_one_connection(
    copies: list[OldTables], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tenant("acme")
    make_provider(slug="theirs", environment="development", api_config=oauth2_config("http://127.0.0.1:9"))
    files = write(tmp_path, {"id": "a", "credentials": TOKENS})
    looked, real = threading.Barrier(2), refresh_tokens.holders

    def looks_as_another_one_does(*arguments: Any) -> Any:
        found = real(*arguments)
        with suppress(threading.BrokenBarrierError):
            looked.wait(1)
        return found

    monkeypatch.setattr(refresh_tokens, "holders", looks_as_another_one_does)
    options = ("--create-users", "--trust-emails", "--database-url")
    imports: list[Callable[[], str]] = [
        lambda: answers("import_social_platforms", *files[:4], "--report", tmp_path / "1"),
        lambda: answers("import_social_platforms", *files[:4], "--report", tmp_path / "2", "--source-name", "other"),
        lambda: answers("import_django_oauth", *options, copies[0].url),
        lambda: answers("import_django_oauth", *options, copies[1].url, "--tenant", "acme"),
    ]
    with ThreadPoolExecutor(len(imports)) as pool:
        told = [one.result() for one in [pool.submit(one) for one in imports]]
    assert all('"error"' not in one for one in told), told
    assert [json.loads(one)["platforms"]["failed"] for one in told[:2]] == [0, 0]
    assert ExternalApiConnection.objects.count() == 1
    assert User.objects.filter(email="ada@example.com").count() == 1
