"""Starts workflows at their times: one run for each time, however many processes look."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils import timezone

from connections.workflows.definitions import Schedule, workflows
from connections.workflows.runs import start
from external_apis import request_context

__all__ = ["latest_time", "start_scheduled"]

LATEST = timedelta(hours=1)
"""A time that was missed by no more is made up for."""


def start_scheduled(now: datetime | None = None) -> list[str]:
    """Start the scheduled workflows whose time has come; return the ids of their runs, those of before among them."""
    now = now or timezone.now()
    started = []
    with request_context.acting("system"):
        for definition in workflows():
            due = latest_time(definition.schedule, now) if definition.schedule is not None else None
            if due is not None:
                key = f"schedule {due.isoformat()}"
                started.append(start(definition.name, definition.scheduled_input, idempotency_key=key).pk)
    return started


def latest_time(schedule: Schedule, now: datetime) -> datetime | None:
    """Return the last time of a schedule up to ``now`` (UTC); None for one of crontab's more than an hour ago.

    Those of an interval are counted from 1970, so that all processes name the same ones.
    """
    now = now.astimezone(UTC)
    if isinstance(schedule, timedelta):
        seconds = schedule.total_seconds()
        return datetime.fromtimestamp(now.timestamp() // seconds * seconds, UTC)
    minute = now.replace(second=0, microsecond=0)
    for _ in range(int(LATEST.total_seconds() // 60)):
        if _fits(schedule, minute):
            return minute
        minute -= timedelta(minutes=1)
    return None


def _fits(schedule: Any, minute: datetime) -> bool:
    return (
        minute.minute in schedule.minute
        and minute.hour in schedule.hour
        and minute.isoweekday() % 7 in schedule.day_of_week
        and minute.day in schedule.day_of_month
        and minute.month in schedule.month_of_year
    )
