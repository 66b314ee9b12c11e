"""Steps of time in a named time zone, and how stored sums of quarters up to months cover them.

Sums are stored by UTC. A step in another zone begins at another hour, or at another quarter of one (Nepal is 5:45
ahead), so it is put together: whole months in the middle, ever shorter sums towards its edges.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, Field

from external_apis.admin_api.operations import Query
from external_apis.errors import InvalidInput
from external_apis.time_input import Day

__all__ = [
    "MOST_STEPS",
    "Grain",
    "Period",
    "SeriesQuery",
    "SeriesStep",
    "Stretch",
    "columns_of",
    "cover",
    "floor",
    "join",
    "steps",
    "whole",
]

MOST_STEPS = 800
"""How many steps one answer has at most: two years of days."""

_DEFAULT_DAYS = 30


class Grain(StrEnum):
    """What a stored sum is over, in UTC."""

    QUARTER = "quarter"
    """Of an hour."""
    HOUR = "hour"
    DAY = "day"
    PENTAD = "pentad"
    """Five days that begin on the 1st, 6th, 11th, 16th or 21st of a month, or what is left of it from the 26th on."""
    MONTH = "month"


_COARSE_FIRST = tuple(reversed(Grain))
_LENGTHS = {Grain.QUARTER: timedelta(minutes=15), Grain.HOUR: timedelta(hours=1), Grain.DAY: timedelta(days=1)}
_PENTAD_DAYS, _LAST_PENTAD = 5, 26
_LEAST = {**_LENGTHS, Grain.PENTAD: timedelta(days=3), Grain.MONTH: timedelta(days=28)}
"""How long a unit is at least: the last two are short in February."""
_FITTING = [(_LEAST[grain], _COARSE_FIRST[place:]) for place, grain in enumerate(_COARSE_FIRST)]
"""The grains that may make up a time, by how long it is at least."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SeriesStep(StrEnum):
    DAY = "day"
    WEEK = "week"
    """From Monday on (ISO 8601)."""
    MONTH = "month"


class Period(NamedTuple):
    """From ``starts_at`` to before ``ends_at``, both in UTC; ``day`` is its first day in the zone asked for."""

    day: date
    starts_at: datetime
    ends_at: datetime


class Stretch(NamedTuple):
    """All stored sums of one grain that begin from ``starts_at`` to before ``ends_at``."""

    grain: Grain
    starts_at: datetime
    ends_at: datetime


@cache
def _zones() -> set[str]:
    """Return the names of places; the other two are files beside them: the server's own zone, and none at all."""
    return available_timezones() - {"localtime", "Factory"}


def _known(name: str) -> str:
    if name not in _zones():
        raise ValueError("is not the name of a time zone such as Europe/Berlin")
    return name


class SeriesQuery(Query):
    """From one day to another, both included, in a time zone."""

    since: Annotated[Day | None, Field(alias="from")] = None
    """The first day, such as `2026-01-15`; 29 days before `to` unless given."""
    until: Annotated[Day | None, Field(alias="to")] = None
    """The last day, which is included; today unless given."""
    step: SeriesStep = SeriesStep.DAY
    time_zone: Annotated[str, Field(max_length=64), AfterValidator(_known)] = "UTC"
    """A name of the IANA's list, such as `Europe/Berlin`: where days begin."""

    def periods(self, now: datetime) -> list[Period]:
        """Return the steps asked for, in order; the first and the last are cut off at ``from`` and ``to``.

        Raises `InvalidInput` for a range that runs backwards or has more than `MOST_STEPS`.
        """
        zone = ZoneInfo(self.time_zone)
        until = self.until or now.astimezone(zone).date()
        since = self.since or until - timedelta(days=_DEFAULT_DAYS - 1)
        if since > until:
            raise InvalidInput.of("to", "is before `from`")
        found = list(steps(since, until, self.step, zone))
        if len(found) > MOST_STEPS:
            raise InvalidInput.of("to", f"is more than {MOST_STEPS} steps after `from`")
        return found

    def period_before(self, periods: Sequence[Period]) -> Period:
        """Return as many days as `periods` returned, right before them."""
        zone = ZoneInfo(self.time_zone)
        first, end = periods[0].day, periods[-1].ends_at.astimezone(zone).date()
        since = first - (end - first)
        return Period(since, _midnight(since, zone), periods[0].starts_at)


def steps(since: date, until: date, step: SeriesStep, zone: ZoneInfo) -> Iterator[Period]:
    """Yield the days, weeks or months from ``since`` to ``until``, one more than `MOST_STEPS` at most."""
    end = until + timedelta(days=1)
    first, starts_at = since, _midnight(since, zone)
    for _ in range(MOST_STEPS + 1):
        if first >= end:
            return
        following = min(_next(first, step), end)
        ends_at = _midnight(following, zone)
        yield Period(first, starts_at, ends_at)
        first, starts_at = following, ends_at


def cover(period: Period) -> list[Stretch]:
    """Return the fewest stretches of stored sums that make up a period, in order; none overlaps another."""
    length = period.ends_at - period.starts_at
    grains = next((grains for least, grains in _FITTING if least <= length), _COARSE_FIRST[-1:])
    return list(_cover(period.starts_at, period.ends_at, grains))


def join(periods: Sequence[Period]) -> list[Stretch]:
    """Return what makes up all periods, with stretches that go on from one to the next as one."""
    runs: list[Stretch] = []
    for stretch in (stretch for period in periods for stretch in cover(period)):
        last = runs[-1] if runs else None
        if last is not None and last.grain is stretch.grain and last.ends_at == stretch.starts_at:
            runs[-1] = Stretch(last.grain, last.starts_at, stretch.ends_at)
        else:
            runs.append(stretch)
    return runs


def whole(periods: Sequence[Period]) -> Period:
    """Return periods that follow one another as one."""
    return Period(periods[0].day, periods[0].starts_at, periods[-1].ends_at)


def columns_of(periods: Sequence[Period]) -> list[list[Any]]:
    """Return the stretches that make up each period, for a statement's ``unnest``: the place of the period among them
    all, the grain, and when a stretch begins and ends."""
    stretches = [(place, stretch) for place, period in enumerate(periods) for stretch in cover(period)]
    return [
        [place for place, _ in stretches],
        [stretch.grain.value for _, stretch in stretches],
        [stretch.starts_at for _, stretch in stretches],
        [stretch.ends_at for _, stretch in stretches],
    ]


def floor(moment: datetime, grain: Grain) -> datetime:
    """Return when the unit of a grain that ``moment`` lies in began, in UTC."""
    moment = moment.astimezone(UTC)
    if grain in (Grain.MONTH, Grain.PENTAD):
        first = 1 if grain is Grain.MONTH else min(moment.day - (moment.day - 1) % _PENTAD_DAYS, _LAST_PENTAD)
        return moment.replace(day=first, hour=0, minute=0, second=0, microsecond=0)
    return moment - (moment - _EPOCH) % _LENGTHS[grain]


def _cover(start: datetime, end: datetime, grains: Sequence[Grain]) -> Iterator[Stretch]:
    """Yield the part before the first whole unit of the coarsest grain, those units, and the part behind them."""
    grain, finer = grains[0], grains[1:]
    first, last = _ceiling(start, grain), floor(end, grain)
    if first >= last:
        if finer and start < end:
            yield from _cover(start, end, finer)
        return
    if start < first and finer:
        yield from _cover(start, first, finer)
    yield Stretch(grain, first, last)
    if last < end and finer:
        yield from _cover(last, end, finer)


def _ceiling(moment: datetime, grain: Grain) -> datetime:
    start = floor(moment, grain)
    if start == moment:
        return start
    if grain is Grain.PENTAD and start.day < _LAST_PENTAD:
        return start + timedelta(days=_PENTAD_DAYS)
    if grain in (Grain.MONTH, Grain.PENTAD):
        return floor(start.replace(day=1) + timedelta(days=32), Grain.MONTH)
    return start + _LENGTHS[grain]


def _next(first: date, step: SeriesStep) -> date:
    if step is SeriesStep.DAY:
        return first + timedelta(days=1)
    if step is SeriesStep.WEEK:
        return first + timedelta(days=7 - first.weekday())
    return (first.replace(day=1) + timedelta(days=32)).replace(day=1)


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    """Return when a day begins; where a change of the clock has no midnight on it, at the moment of the change."""
    return datetime.combine(day, time(), zone).astimezone(UTC)
