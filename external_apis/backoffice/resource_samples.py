"""Samples of resources over time: one a minute, kept as lowest, highest and mean of quarters up to months."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection

from external_apis.backoffice.models import ResourceSum
from external_apis.backoffice.periods import Grain, Period, columns_of, floor
from external_apis.backoffice.resources import Part

__all__ = ["Spread", "add_sample", "prune_samples", "read_samples"]

_SUMS = ResourceSum._meta.db_table
_KEPT: Mapping[Grain, timedelta] = {
    Grain.QUARTER: timedelta(days=100),
    Grain.HOUR: timedelta(days=800),
    Grain.DAY: timedelta(days=800),
    Grain.PENTAD: timedelta(days=800),
}
"""Months stay. Only zones that are quarters of an hour apart from UTC want the quarters."""

_ADD = f"""
INSERT INTO {_SUMS} AS kept (grain, starts_at, figure, samples, lowest, highest, total)
SELECT span.grain, span.starts_at, sample.figure, 1, sample.value, sample.value, sample.value
FROM unnest(%s::text[], %s::timestamptz[]) AS span (grain, starts_at)
CROSS JOIN unnest(%s::text[], %s::float8[]) AS sample (figure, value)
ORDER BY span.grain, span.starts_at, sample.figure
ON CONFLICT (grain, starts_at, figure) DO UPDATE SET
    samples = kept.samples + 1,
    lowest = least(kept.lowest, EXCLUDED.lowest),
    highest = greatest(kept.highest, EXCLUDED.highest),
    total = kept.total + EXCLUDED.total
"""  # noqa: S608 (our own table's name)

_READ = f"""
SELECT stretch.place, row.figure, min(row.lowest), max(row.highest), sum(row.total) / sum(row.samples)
FROM unnest(%s::int[], %s::text[], %s::timestamptz[], %s::timestamptz[]) AS stretch (place, grain, starts_at, ends_at)
JOIN {_SUMS} AS row ON row.grain = stretch.grain
    AND row.starts_at >= stretch.starts_at AND row.starts_at < stretch.ends_at
GROUP BY stretch.place, row.figure
ORDER BY stretch.place, row.figure
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Spread:
    """Of the samples of one figure in one time."""

    lowest: float
    mean: float
    highest: float


def add_sample(parts: Mapping[str, Part], now: datetime) -> None:
    """Add what was measured, parts that failed left out. One statement."""
    values = {f"{part}.{name}": float(value) for part, told in parts.items() for name, value in told.figures.items()}
    grains = list(Grain)
    with connection.cursor() as cursor:
        cursor.execute(
            _ADD,
            [
                [grain.value for grain in grains],
                [floor(now, grain) for grain in grains],
                list(values),
                list(values.values()),
            ],
        )


def read_samples(periods: Sequence[Period]) -> list[dict[str, Spread]]:
    """Return of each period the figures of which there are samples, as ``part.name``. One query."""
    found: list[dict[str, Spread]] = [{} for _ in periods]
    with connection.cursor() as cursor:
        cursor.execute(_READ, columns_of(periods))
        for place, figure, lowest, highest, mean in cursor.fetchall():
            found[place][figure] = Spread(lowest, mean, highest)
    return found


def prune_samples(now: datetime) -> int:
    """Delete what is too old; returns the number of rows."""
    return sum(
        ResourceSum.objects.filter(grain=grain.value, starts_at__lt=now - kept).delete()[0]
        for grain, kept in _KEPT.items()
    )
