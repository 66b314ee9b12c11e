"""What importing 100,000 tokens of social-auth takes: rows a second, and memory a tenth of the way and at its end."""

from __future__ import annotations

import io
import json
import os
import time
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command

from connections.imports import runs
from connections.models import ExternalApiConnection
from tests.connections.imports.old_oauth_tables import OldTables, old_tables
from tests.processes import resident_bytes

pytestmark = pytest.mark.django_db(transaction=True)

ROWS = int(os.environ.get("BENCH_IMPORT_ROWS", "100000"))
_ALLOWED_GROWTH = 1.15


def fill(old: OldTables) -> None:
    old.run(
        "INSERT INTO auth_user (username, email) "
        "SELECT 'user' || n, 'user' || n || '@example.com' FROM generate_series(1, %s) AS n",
        ROWS,
    )
    old.run(
        "INSERT INTO social_auth_usersocialauth (user_id, provider, uid, extra_data) "
        "SELECT id, 'google-oauth2', id::text, jsonb_build_object('access_token', 'at-' || id, 'refresh_token', "
        "'rt-' || id, 'expires', 3600, 'auth_time', extract(epoch FROM now())::bigint, 'token_type', 'Bearer') "
        "FROM auth_user"
    )


def test_a_hundred_thousand_tokens(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    User.objects.bulk_create(
        [User(username=f"user{number}", email=f"user{number}@example.com") for number in range(1, ROWS + 1)],
        batch_size=5_000,
    )
    sizes: list[int] = []
    real = runs.record

    def record(*arguments: Any) -> None:
        real(*arguments)
        sizes.append(resident_bytes())

    monkeypatch.setattr(runs, "record", record)
    with old_tables("bench_oauth") as old:
        fill(old)
        out, started = io.StringIO(), time.perf_counter()
        call_command("import_django_oauth", "--database-url", old.url, "--apply", "--json", stdout=out)
        seconds = time.perf_counter() - started
    assert json.loads(out.getvalue())["counts"] == {"created": ROWS}
    assert ExternalApiConnection.objects.count() == ROWS
    early, late = sizes[len(sizes) // 10], sizes[-1]
    with capsys.disabled():
        print(f"\n{ROWS:,} tokens: {ROWS / seconds:,.0f} a second, {early >> 20} MiB early and {late >> 20} MiB late")
    assert late < early * _ALLOWED_GROWTH
    assert ROWS / seconds > 300
