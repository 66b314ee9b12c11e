"""Resources: measured part by part, and sampled into sums."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from external_apis import valkey
from external_apis.backoffice.models import ResourceSum
from external_apis.backoffice.resource_samples import add_sample, prune_samples
from external_apis.backoffice.resources import Part, measure
from external_apis.backoffice.tasks import prune_analytics, roll_up_overview, sample_resources
from tests.envelope import EXTERNAL, client_of, data_of, failure_of
from tests.factories import make_key, make_tenant
from tests.rest import with_key

pytestmark = pytest.mark.django_db
URL = f"{EXTERNAL}/analytics/resources"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def sample(moment: str, **values: float) -> None:
    add_sample({"process": Part(values), "valkey": Part(error="unavailable")}, at(moment))


def asked(**query: str) -> dict[str, Any]:
    query = {"from" if name == "since" else name: value for name, value in query.items()}
    found: dict[str, Any] = data_of(with_key().get(URL, query))
    return found


def test_what_is_used_now(settings: Any, tmp_path: Path) -> None:
    settings.SPOOL_DIR = str(tmp_path)
    client, name = valkey.client(), "slow"
    client.rpush(name, "a task", "another")
    try:
        now = asked()["now"]
    finally:
        client.ltrim(name, 2, -1)
    assert {part: told["status"] for part, told in now.items()} == dict.fromkeys(
        ("process", "database", "valkey", "queues", "due", "disk"), "ok"
    )
    process = now["process"]["figures"]
    assert abs(process["rssBytes"] - psutil.Process(os.getpid()).memory_info().rss) < 50_000_000
    assert process["threads"] >= 1
    assert 0 < process["uptimeSeconds"] < 86_400
    assert process["cpuPercent"] > 0
    assert now["database"]["figures"]["sizeBytes"] > 5_000_000
    assert 1 <= now["database"]["figures"]["connections"] <= now["database"]["figures"]["maxConnections"]
    assert now["valkey"]["figures"]["usedBytes"] > 100_000
    assert now["queues"]["figures"]["slow"] >= 2
    disk = now["disk"]["figures"]
    assert set(disk) == {"varUsedBytes", "varFreeBytes", "spoolUsedBytes", "spoolFreeBytes"}
    assert disk["spoolFreeBytes"] > 0


def test_a_part_that_fails_says_so_and_the_others_are_there(settings: Any, tmp_path: Path) -> None:
    settings.SPOOL_DIR = str(tmp_path / "missing")
    settings.REDIS_URL = "redis://:a-password@127.0.0.1:1/0"
    told = measure()
    assert (told["valkey"].error, told["queues"].error) == ("unavailable", "unavailable")
    assert told["database"].figures["size_bytes"] > 0
    assert not told["process"].error
    assert "spool_free_bytes" not in told["disk"].figures
    assert "a-password" not in str(told)


def test_samples_step_by_step_in_a_zone() -> None:
    """In Kathmandu 2026-01-02 begins at 18:15 UTC the day before."""
    sample("2026-01-01T18:14:00", rss_bytes=10, threads=4)
    sample("2026-01-01T18:15:00", rss_bytes=30)
    sample("2026-01-01T18:29:00", rss_bytes=20)
    sample("2026-01-02T18:00:00", rss_bytes=70)
    told = asked(since="2026-01-01", to="2026-01-03", timeZone="Asia/Kathmandu")
    assert [(step["day"], step["figures"]) for step in told["series"]] == [
        ("2026-01-01", {"process": {
            "rssBytes": {"min": 10, "avg": 10, "max": 10}, "threads": {"min": 4, "avg": 4, "max": 4},
        }}),
        ("2026-01-02", {"process": {"rssBytes": {"min": 20, "avg": 40, "max": 70}}}),
        ("2026-01-03", {}),
    ]  # fmt: skip
    monthly = asked(since="2026-01-01", to="2026-01-31", step="month")
    assert [step["figures"]["process"]["rssBytes"]["avg"] for step in monthly["series"]] == [32.5]


def test_a_year_costs_the_queries_of_a_day() -> None:
    sample("2026-06-01T10:00:00", rss_bytes=10)
    client, counts = with_key(), []
    for since in ("2026-06-01", "2025-06-02"):
        with CaptureQueriesContext(connection) as captured:
            data_of(client.get(URL, {"from": since, "to": "2026-06-01"}))
        counts.append(len(captured))
    assert counts[0] == counts[1] <= 7


def test_the_tasks_take_samples_and_forget_old_ones() -> None:
    sample_resources()
    figures = set(ResourceSum.objects.filter(grain="month").values_list("figure", flat=True))
    assert {
        "process.rss_bytes",
        "database.size_bytes",
        "valkey.used_bytes",
        "queues.celery",
        "due.workflow_runs",
    } <= figures
    before = ResourceSum.objects.count()
    sample("2020-01-01T10:00:00", rss_bytes=10)
    prune_analytics()
    assert ResourceSum.objects.count() == before + 1
    assert prune_samples(datetime.now(UTC)) == 0
    roll_up_overview()


def test_only_for_operators_with_the_scope() -> None:
    refused = (make_key(tenant=make_tenant()), make_key(scopes=["system:read"]))
    for key in refused:
        assert failure_of(client_of(key.token).get(URL)) == (403, "FORBIDDEN")
    assert data_of(client_of(make_key(scopes=["analytics:read"]).token).get(URL))
    assert failure_of(with_key().get(URL, {"step": "hour"})) == (400, "VALIDATION_ERROR")
