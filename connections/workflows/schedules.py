"""Starts workflows at their times: one run for each time, however many processes look."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils import timezone

from connections.workflows.definitions import Schedule, Workflow, workflows
from connections.workflows.failures import describe
from connections.workflows.runs import start_scheduled_at
from external_apis import request_context

__all__ = ["latest_time", "start_scheduled"]

logger = logging.getLogger(__name__)

LATEST = timedelta(hours=1)
"""A time that was missed by no more is made up for."""


def start_scheduled(now: datetime | None = None) -> list[str]:
    """Start the scheduled workflows whose time has come; return the ids of their runs, those of before among them."""
    now = now or timezone.now()
    started = []
    with request_context.acting("system"):
        for definition in workflows():
            if definition.schedule is not None:
                started += _start(definition, definition.schedule, now)
    return started


def _start(definition: Workflow, schedule: Schedule, now: datetime) -> list[str]:
    """Start one whose time has come; what keeps it from starting is no reason for others not to."""
    try:
        due = latest_time(schedule, now)
        return [start_scheduled_at(definition, due).pk] if due is not None else []
    except Exception as error:  # of whoever wrote it
        logger.error("the scheduled workflow %s was not started: %s", definition.name, ": ".join(describe(error)))  # noqa: TRY400
        return []


def latest_time(schedule: Schedule, now: datetime) -> datetime | None:
    """Return the last time of a schedule up to ``now`` (UTC); None for one of an hour ago or more.

    Those of an interval are counted from 1970, so that all processes name the same ones.
    """
    now = now.astimezone(UTC)
    if isinstance(schedule, timedelta):
        seconds = schedule.total_seconds()
        due = datetime.fromtimestamp(now.timestamp() // seconds * seconds, UTC)
        return due if now - due < LATEST else None
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
