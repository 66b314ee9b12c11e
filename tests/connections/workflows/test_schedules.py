"""One run for each time of a schedule, over all processes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery.schedules import crontab
from django.db import connection

from connections.models import WorkflowRun
from connections.workflows import workflow
from connections.workflows.schedules import latest_time, start_scheduled

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
    ],
)
def test_latest_time(schedule: Any, now: datetime, expected: datetime | None) -> None:
    assert latest_time(schedule, now) == expected


@pytest.mark.django_db(transaction=True)
def test_each_time_starts_one_run_however_many_look() -> None:
    workflow("nightly", schedule=crontab(minute="0", hour="12"))(lambda context, given: None)
    workflow("unscheduled")(lambda context, given: None)

    def look(minutes: int) -> list[str]:
        try:
            return start_scheduled(NOON + timedelta(minutes=minutes))
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert len({run for runs in pool.map(look, range(8)) for run in runs}) == 1
    assert look(24 * 60) != look(0)
    runs = WorkflowRun.objects.order_by("id")
    assert [(run.workflow, run.started_by) for run in runs] == [("nightly", "system")] * 2
