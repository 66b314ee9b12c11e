"""When others are told that a connection's calls fail, and that they work again."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection as database
from django.db import transaction
from django.test.utils import CaptureQueriesContext

from connections.failing_calls import judge
from connections.models import CallPeriod, ExternalApiConnection, FailingCalls, Step
from external_apis.models import OutboxEvent
from tests.factories import make_connection, make_provider, make_tenant

pytestmark = pytest.mark.django_db


def count(row: ExternalApiConnection, calls: int, errors: int, *, minutes_ago: int = 0) -> list[str]:
    """Note the figures of a minute, have them judged, and return what has been told so far."""
    at = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=minutes_ago)
    figures = {"calls": calls, "errors": errors, "error:CALL_TIMEOUT": errors}
    CallPeriod.objects.update_or_create(
        connection=row, step=Step.MINUTE, starts_at=at, defaults={"tenant": row.tenant, "figures": figures}
    )
    judge([row.pk])
    return [event.type for event in OutboxEvent.objects.filter(type__startswith="calls.").order_by("pk")]


def test_each_turn_is_told_of_once() -> None:
    row = make_connection(make_provider(tenant=(tenant := make_tenant())), tenant=tenant)
    assert count(row, 100, 0) == []
    assert count(row, 8, 4) == [], "too few errors"
    assert count(row, 100, 49) == [], "less than half"
    assert count(row, 10, 5) == ["calls.failing"]
    assert count(row, 20, 20) == ["calls.failing"], "still"
    assert count(row, 100, 11) == ["calls.failing"], "neither well nor failing"
    assert count(row, 100, 10) == ["calls.failing", "calls.recovered"]
    assert not FailingCalls.objects.exists()
    assert count(row, 6, 6) == ["calls.failing", "calls.recovered", "calls.failing"]
    event = OutboxEvent.objects.filter(type="calls.failing")[0]
    assert event.tenant_id == tenant.pk
    assert event.data == {
        "connectionId": row.pk,
        "providerId": row.external_api_id,
        "tenantId": tenant.pk,
        "windowSeconds": 300,
        "calls": 10,
        "errors": 5,
        "errorsByCode": {"CALL_TIMEOUT": 5},
    }


def test_the_last_five_minutes_count_together() -> None:
    row = make_connection()
    assert count(row, 100, 100, minutes_ago=6) == []
    assert count(row, 3, 3, minutes_ago=2) == []
    assert count(row, 2, 2) == ["calls.failing"]


def test_several_connections_in_few_queries() -> None:
    rows = [make_connection() for _ in range(4)]
    for row in rows:
        count(row, 1, 0)
    with CaptureQueriesContext(database) as captured:
        judge([row.pk for row in rows])
    assert len(captured) == 1, "where nothing turns"
    judge([])


@pytest.mark.django_db(transaction=True)
def test_two_that_judge_at_once_tell_once() -> None:
    row = make_connection()
    began = threading.Barrier(2)

    def work() -> None:
        try:
            with transaction.atomic():
                CallPeriod.objects.count()
                began.wait(5)
                judge([row.pk])
        finally:
            database.close()

    at = datetime.now(UTC).replace(second=0, microsecond=0)
    for errors, told in ((10, ["calls.failing"]), (0, ["calls.failing", "calls.recovered"])):
        CallPeriod.objects.update_or_create(
            connection=row, step=Step.MINUTE, starts_at=at, defaults={"figures": {"calls": 10, "errors": errors}}
        )
        with ThreadPoolExecutor(2) as pool:
            for running in [pool.submit(work) for _ in range(2)]:
                running.result(10)
        found = OutboxEvent.objects.filter(type__startswith="calls.").order_by("pk")
        assert [event.type for event in found] == told
