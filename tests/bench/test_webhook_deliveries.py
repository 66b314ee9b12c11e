"""What delivering webhooks costs, in units of a bare loop posting the same bodies; whether a backlog slows it."""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from django.db import connection as database
from django.utils import timezone

from connections.models import WebhookDelivery
from connections.webhooks.outbound import endpoints
from connections.webhooks.outbound.delivery import deliver_due
from connections.webhooks.outbound.fan_out import fan_out
from connections.webhooks.outbound.message import body_of
from connections.webhooks.outbound.signing import Signer
from external_apis.models import OutboxEvent

pytestmark = pytest.mark.django_db(transaction=True)

COUNT, ENDPOINTS = 100_000, 10
_SECONDS, _POSTS = 1.5, 1_500


@pytest.fixture
def origin(settings: Any) -> Iterator[str]:
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    command = [sys.executable, str(Path(__file__).with_name("loopback.py")), "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        server.terminate()


def bare_rate(url: str, signer: Signer) -> float:
    event = OutboxEvent(type="grant.refreshed", data={"connectionId": "conn_bench", "outcome": "succeeded"})
    body = body_of(event)
    headers = {**signer.headers(event.pk, timezone.now(), body), "Content-Type": "application/json"}
    session, started = requests.Session(), time.perf_counter()
    for _ in range(_POSTS):
        session.post(url, data=body, headers=headers, timeout=15).raise_for_status()
    return _POSTS / (time.perf_counter() - started)


def our_rate() -> float:
    """Deliver for a while, as a worker does."""
    began = time.perf_counter()
    done = deliver_due(seconds=_SECONDS, rng=random.Random(1))
    assert done.attempts == done.delivered > 0
    return done.delivered / (time.perf_counter() - began)


def test_a_hundred_thousand_deliveries(origin: str, capsys: pytest.CaptureFixture[str]) -> None:
    made = [endpoints.create({"url": f"{origin}/hook/{number}", "events": ["grant.*"]}) for number in range(ENDPOINTS)]
    signer = Signer([made[0].secret])
    OutboxEvent.objects.all().delete()
    facts = {"connectionId": "conn_bench", "outcome": "succeeded"}
    OutboxEvent.objects.bulk_create(
        (OutboxEvent(type="grant.refreshed", data=facts) for _ in range(COUNT // ENDPOINTS)), batch_size=5_000
    )
    began = time.perf_counter()
    while fan_out():
        pass
    fanned_out = COUNT / (time.perf_counter() - began)
    assert WebhookDelivery.objects.count() == COUNT
    with database.cursor() as cursor:
        cursor.execute("ANALYZE connections_webhookdelivery")
    bare_rate(origin, signer)
    rates: dict[str, list[float]] = {"bare": [], "first": [], "last": []}
    for _ in range(3):
        rates["bare"].append(bare_rate(origin, signer))
        rates["first"].append(our_rate())
    # The last tenth: what lies between is taken away, which the figures above stand for.
    left = WebhookDelivery.objects.filter(status="pending").order_by("-pk").values("pk")[: COUNT // 10]
    WebhookDelivery.objects.filter(status="pending").exclude(pk__in=left).update(status="failed", due_at=None)
    for _ in range(3):
        rates["bare"].append(bare_rate(origin, signer))
        rates["last"].append(our_rate())
    bare, first, last = (statistics.median(rates[name]) for name in ("bare", "first", "last"))
    with capsys.disabled():
        print(
            f"\n{COUNT} deliveries queued at {fanned_out:.0f} a second; sent {first:.0f} a second at first and "
            f"{last:.0f} at last ({last / first:.2f}); {min(first, last) / bare:.2f} times a bare loop ({bare:.0f})"
        )
    assert last >= 0.8 * first
    assert min(first, last) >= 0.4 * bare
