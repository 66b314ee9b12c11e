"""What renewing many tokens costs, in units of the bare token requests, and what finding the due ones costs."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from django.db import connection as database
from django.db import transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from connections.models import ExternalApiConnection, ExternalApiCredential, Grant
from connections.oauth import leases
from connections.oauth.sweep import sweep
from external_apis.models import ExternalApi
from tests.factories import make_provider
from tests.grants import oauth2_config

pytestmark = pytest.mark.django_db(transaction=True)

COUNT, ROWS = 2_000, 1_000_000


@pytest.fixture
def origin(settings: Any, tmp_path: Path) -> Iterator[str]:
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    settings.SPOOL_DIR = str(tmp_path / "spool")
    command = [sys.executable, str(Path(__file__).with_name("token_endpoint.py"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        server.terminate()


def make_due(api: ExternalApi, count: int) -> None:
    rows = [
        ExternalApiConnection(external_api=api, connection_name=f"Due {number}", slug=f"due-{number}")
        for number in range(count)
    ]
    ExternalApiConnection.objects.bulk_create(rows, batch_size=1_000)
    credentials = [
        ExternalApiCredential(
            connection=row,
            secrets={"access_token": f"at-{row.pk}", "refresh_token": f"rt-{row.pk}"},
            expires_at=timezone.now(),
        )
        for row in rows
    ]
    for credential in credentials:
        credential.describe_secrets()
    ExternalApiCredential.objects.bulk_create(credentials, batch_size=1_000)
    Grant.objects.bulk_create([Grant(connection=row, due_at=timezone.now()) for row in rows], batch_size=1_000)


def bare_seconds(origin: str) -> float:
    session, started = requests.Session(), time.perf_counter()
    fields = {"grant_type": "refresh_token", "client_id": "client", "client_secret": "s"}
    for number in range(COUNT):
        session.post(f"{origin}/token", data={**fields, "refresh_token": f"rt-{number}"}).json()
    return time.perf_counter() - started


def test_two_thousand_refreshes(origin: str, capsys: pytest.CaptureFixture[str]) -> None:
    api = make_provider(environment="development", api_config=oauth2_config(origin))
    make_due(api, COUNT)
    bare = bare_seconds(origin)
    with CaptureQueriesContext(database) as queries:
        started = time.perf_counter()
        assert sweep(seconds=300).renewed == COUNT
        took = time.perf_counter() - started
    bare = (bare + bare_seconds(origin)) / 2
    with capsys.disabled():
        print(
            f"\n{COUNT} refreshes: {took:.1f} s, {took / bare:.2f} times the bare requests ({bare:.1f} s); "
            f"{len(queries) / COUNT:.3f} queries a refresh"
        )
    assert len(queries) <= COUNT / 10
    assert took < 3 * bare


def test_due_ones_among_a_million_are_found_by_index(capsys: pytest.CaptureFixture[str]) -> None:
    """In a transaction that is rolled back: that their connections are missing is noticed only by a commit."""
    with transaction.atomic(), database.cursor() as cursor:
        cursor.execute(
            "INSERT INTO connections_grant (connection_id, state, due_at, fence, lease_holder, failures, "
            "requested_scopes, incident) SELECT 'conn_bench' || n, 'good', now() - interval '1 minute' "
            "+ (n %% 10000) * interval '2 minutes', 0, '', 0, '[]', '' FROM generate_series(1, %s) AS n",
            [ROWS],
        )
        cursor.execute("ANALYZE connections_grant")
        values: dict[str, Any] = {
            "now": timezone.now(),
            "until": timezone.now(),
            "holder": "x",
            "limit": 50,
            "passed": [],
        }
        cursor.execute(f"EXPLAIN {leases._DUE}", values)
        plan = "\n".join(line for (line,) in cursor.fetchall())
        times = []
        for _ in range(2):
            started = time.perf_counter()
            assert len(leases.claim_due(50)) == 50
            times.append((time.perf_counter() - started) * 1000)
        transaction.set_rollback(True)
    with capsys.disabled():
        print(f"\nclaiming 50 due grants among {ROWS}: {min(times):.1f} ms")
    assert "grant_by_due_at" in plan, plan
    assert "Seq Scan" not in plan, plan
    assert min(times) <= 20
