"""One run for each time of a schedule, over all processes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery.schedules import crontab
from django.db import connection
from django.utils import timezone
from pydantic import BaseModel, Field

from connections.models import WorkflowRun
from connections.workflows import find, start, workflow
from connections.workflows.schedules import latest_time, start_scheduled
from external_apis.errors import InvalidInput

NOON = datetime(2026, 1, 20, 12, 0, tzinfo=UTC)  # a Tuesday


@pytest.mark.parametrize(
    ("schedule", "now", "expected"),
    [
        (crontab(minute="0", hour="12"), NOON, NOON),
        (crontab(minute="0", hour="12"), NOON + timedelta(minutes=59, seconds=59), NOON),
        (crontab(minute="0", hour="12"), NOON + timedelta(hours=1), None),
        (crontab(minute="*/15"), NOON + timedelta(minutes=44), NOON + timedelta(minutes=30)),
        (crontab(minute="0", hour="12", day_of_week="tue"), NOON, NOON),
        (crontab(minute="0", hour="12", day_of_week="wed"), NOON, None),
        (crontab(minute="0", hour="12", day_of_month="20", month_of_year="1"), NOON, NOON),
        (crontab(minute="0", hour="12", month_of_year="2"), NOON, None),
        (timedelta(minutes=5), NOON + timedelta(minutes=7), NOON + timedelta(minutes=5)),
        (timedelta(seconds=90), NOON + timedelta(seconds=89), NOON),
        # Midnight's, of Thursdays: 1970 began with one.
        (timedelta(days=7), datetime(2026, 1, 22, 0, 59, tzinfo=UTC), datetime(2026, 1, 22, tzinfo=UTC)),
        (timedelta(days=7), datetime(2026, 1, 22, 1, 0, tzinfo=UTC), None),
        (timedelta(days=7), NOON, None),
    ],
)
def test_latest_time(schedule: Any, now: datetime, expected: datetime | None) -> None:
    assert latest_time(schedule, now) == expected


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"schedule": timedelta(0)}, "a minute"),
        ({"schedule": timedelta(seconds=59)}, "a minute"),
        ({"schedule": timedelta(minutes=-5)}, "a minute"),
        ({"schedule": crontab(), "scheduled_input": {"number": "seven"}}, "number"),
        ({"schedule": crontab(), "scheduled_input": {}}, "number"),
    ],
)
def test_what_cannot_be_scheduled_is_refused_where_it_is_written(options: dict[str, Any], problem: str) -> None:
    class Numbers(BaseModel):
        number: int

    with pytest.raises(ValueError, match=problem):
        workflow("odd", input=Numbers, **options)(lambda context, given: None)


@pytest.mark.django_db
def test_one_that_cannot_be_started_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(given: Any, granter: Any = None) -> Any:
        raise RuntimeError("swordfish")

    class Broken(crontab):
        minute = property(refuse)

    every = crontab(minute="0", hour="12")
    workflow("a-bad-one", schedule=every, admit=refuse)(lambda context, given: None)
    workflow("another", schedule=Broken.__new__(Broken))(lambda context, given: None)
    workflow("nightly", schedule=every)(lambda context, given: None)
    assert len(start_scheduled(NOON)) == 1
    assert [run.workflow for run in WorkflowRun.objects.all()] == ["nightly"]
    assert "a-bad-one" in caplog.text
    assert "another" in caplog.text
    assert "swordfish" not in caplog.text


@pytest.mark.django_db(transaction=True)
def test_each_time_starts_one_run_however_many_look() -> None:
    class Moment(BaseModel):
        at: datetime = Field(default_factory=timezone.now)

    workflow("nightly", input=Moment, schedule=crontab(minute="0", hour="12"))(lambda context, given: None)
    workflow("unscheduled")(lambda context, given: None)

    def look(minutes: int) -> list[str]:
        try:
            return start_scheduled(NOON + timedelta(minutes=minutes))
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert len({run for runs in pool.map(look, range(8)) for run in runs}) == 1
    assert len(look(0)) == 1, "a default that differs each time makes no other input of it"
    assert look(24 * 60) != look(0)
    runs = WorkflowRun.objects.order_by("id")
    assert [(run.workflow, run.started_by) for run in runs] == [("nightly", "system")] * 2


@pytest.mark.django_db
def test_nobody_else_takes_the_place_of_a_scheduled_run() -> None:
    workflow("nightly", schedule=crontab(minute="0", hour="12"))(lambda context, given: None)
    key = f"schedule {NOON.isoformat()}"
    with pytest.raises(InvalidInput, match="idempotency_key"):
        start("nightly", idempotency_key=key)
    (made,) = start_scheduled(NOON)
    assert find(made).idempotency_key == key
    with pytest.raises(InvalidInput, match="idempotency_key"):
        start("nightly", idempotency_key=key)
