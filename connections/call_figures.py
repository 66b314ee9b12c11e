"""Reads what was counted of calls: the figures of a time, and by minute, hour or day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Q, QuerySet

from connections.client import measures
from connections.client.measures import Bag
from connections.models import CallPeriod, ExternalApiConnection, ObservedCall, ProviderPeriod, Step
from external_apis.models import ExternalApi
from external_apis.tenancy import Scope

__all__ = [
    "Figures",
    "Periods",
    "figures_of",
    "latest_calls",
    "periods_between",
    "periods_of",
    "periods_of_provider",
    "recent_figures",
]


@dataclass(frozen=True, slots=True)
class Figures:
    """``errors_by_code`` counts calls that got no slot as well, which are neither calls nor errors.

    Percentiles are those of the duration of calls with all their attempts and waits, in milliseconds, at most 9 % off;
    None without a call. Bytes are those of bodies.
    """

    calls: int
    errors: int
    errors_by_code: dict[str, int]
    answers_by_status: dict[str, int]
    mean_ms: float | None
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    rate_limit_waits: int
    rate_limit_wait_seconds: float
    bytes_out: int
    bytes_in: int


def figures_of(bag: Bag) -> Figures:
    """Return what a bag of counted numbers says."""
    calls = bag.get(measures.CALLS, 0)
    return Figures(
        calls=calls,
        errors=bag.get(measures.ERRORS, 0),
        errors_by_code=measures.numbered(bag, measures.ERROR),
        answers_by_status=measures.numbered(bag, measures.STATUS),
        mean_ms=round(bag.get(measures.MICROSECONDS, 0) / calls / 1000, 3) if calls else None,
        p50_ms=_milliseconds(bag, 0.5),
        p90_ms=_milliseconds(bag, 0.9),
        p99_ms=_milliseconds(bag, 0.99),
        rate_limit_waits=bag.get(measures.WAITS, 0),
        rate_limit_wait_seconds=bag.get(measures.WAIT_MS, 0) / 1000,
        bytes_out=bag.get(measures.BYTES_OUT, 0),
        bytes_in=bag.get(measures.BYTES_IN, 0),
    )


Periods = QuerySet[CallPeriod] | QuerySet[ProviderPeriod]


def periods_of(row: ExternalApiConnection) -> Periods:
    """Return all periods of a connection."""
    return CallPeriod.objects.filter(connection=row)


def periods_of_provider(api: ExternalApi, scope: Scope) -> Periods:
    """Return all periods of a provider: of the calls through connections that are the scope's own."""
    return scope.own(ProviderPeriod.objects.filter(external_api=api))


def periods_between(periods: Periods, step: str, since: datetime, until: datetime) -> list[tuple[datetime, Bag]]:
    """Return when those periods began that did from ``since`` to before ``until``, in order, with their numbers.

    One without a call is left out.
    """
    found = periods.filter(step=step, starts_at__gte=since, starts_at__lt=until).values_list("starts_at", "figures")
    bags: dict[datetime, Bag] = {}
    for starts_at, figures in found.order_by("starts_at"):
        measures.add(bags.setdefault(starts_at, {}), figures)
    return list(bags.items())


def recent_figures(periods: Periods, now: datetime) -> tuple[Figures, Figures]:
    """Return the figures of the last hour, to the minute, and of the last day, to the hour. One query."""
    hour_ago, day_ago = now - timedelta(hours=1), now - timedelta(days=1)
    wanted = Q(step=Step.MINUTE, starts_at__gt=hour_ago) | Q(step=Step.HOUR, starts_at__gt=day_ago)
    found = list(periods.filter(wanted, starts_at__lte=now).values_list("step", "figures"))
    hour = measures.total(bag for step, bag in found if step == Step.MINUTE)
    return figures_of(hour), figures_of(measures.total(bag for step, bag in found if step == Step.HOUR))


def latest_calls(row: ExternalApiConnection) -> QuerySet[ObservedCall]:
    """Return the connection's kept calls, the latest first."""
    return ObservedCall.objects.filter(connection=row).order_by("-pk")


def _milliseconds(bag: Bag, share: float) -> float | None:
    seconds = measures.percentile(bag, share)
    return None if seconds is None else round(seconds * 1000, 3)
