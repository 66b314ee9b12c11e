"""Forgets the figures and the kept calls that are too old, a few thousand rows at a time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from connections.batches import delete_in_batches
from connections.models import CallPeriod, ObservedCall, ProviderPeriod, Step

__all__ = ["kept", "outdated", "prune"]


def kept(step: str) -> timedelta:
    """Return how long the figures of a step are kept."""
    return {
        Step.MINUTE.value: timedelta(hours=settings.METRICS_MINUTES_KEPT_HOURS),
        Step.HOUR.value: timedelta(days=settings.METRICS_HOURS_KEPT_DAYS),
        Step.DAY.value: timedelta(days=settings.METRICS_DAYS_KEPT_DAYS),
    }[step]


def prune() -> int:
    """Delete what is older than `kept` says (single calls: as old as the days'); returns the number of rows."""
    return sum(_delete(rows) for rows in outdated(timezone.now()))


def outdated(now: datetime) -> list[QuerySet[Any]]:
    """Return the rows that are too old, the oldest first."""
    old: list[QuerySet[Any]] = [
        model._default_manager.filter(step=step, starts_at__lt=now - kept(step)).order_by("starts_at")
        for model in (CallPeriod, ProviderPeriod)
        for step in Step.values
    ]
    return [*old, ObservedCall.objects.filter(ended_at__lt=now - kept(Step.DAY)).order_by("ended_at")]


def _delete(rows: QuerySet[Any]) -> int:
    def delete(limit: int) -> int:
        # Two statements: the planner may run a subquery with a limit for each row anew.
        keys = list(rows.values_list("pk", flat=True)[:limit])
        return rows.model._default_manager.filter(pk__in=keys)._raw_delete(rows.db) if keys else 0  # noqa: SLF001

    return delete_in_batches(delete)
