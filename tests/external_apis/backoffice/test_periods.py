"""Steps in named zones, and how stored sums cover them."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from external_apis.backoffice.periods import (
    MOST_STEPS,
    Grain,
    Period,
    SeriesQuery,
    SeriesStep,
    Stretch,
    cover,
    floor,
    steps,
)
from external_apis.errors import InvalidInput

NOW = datetime(2026, 3, 10, 23, 30, tzinfo=UTC)
LENGTHS = {Grain.QUARTER: timedelta(minutes=15), Grain.HOUR: timedelta(hours=1), Grain.DAY: timedelta(days=1)}


def asked(**given: Any) -> SeriesQuery:
    return SeriesQuery.model_validate(given)


def quarters(stretches: list[Stretch]) -> list[datetime]:
    """Every quarter of an hour that the stretches stand for."""
    found = []
    for stretch in stretches:
        assert floor(stretch.starts_at, stretch.grain) == stretch.starts_at
        assert floor(stretch.ends_at, stretch.grain) == stretch.ends_at
        moment = stretch.starts_at
        while moment < stretch.ends_at:
            found.append(moment)
            moment += timedelta(minutes=15)
    return found


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "Pacific/Chatham"])
@pytest.mark.parametrize("step", list(SeriesStep))
def test_stretches_cover_each_step_once_and_whole(name: str, step: SeriesStep) -> None:
    zone, seed = ZoneInfo(name), random.Random(f"{name}{step}")
    since = date(2026, 1, 1) + timedelta(days=seed.randrange(300))
    periods = list(steps(since, since + timedelta(days=100), step, zone))
    assert [period.ends_at for period in periods[:-1]] == [period.starts_at for period in periods[1:]]
    for period in periods:
        expected = (period.ends_at - period.starts_at) // timedelta(minutes=15)
        covered = quarters(cover(period))
        assert covered == [period.starts_at + number * timedelta(minutes=15) for number in range(expected)]
        local = period.starts_at.astimezone(zone)
        assert (local.date(), local.hour, local.minute) == (period.day, 0, 0)


def test_a_year_by_utc_is_twelve_months_and_a_long_range_is_few_stretches() -> None:
    year = Period(date(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    assert cover(year) == [Stretch(Grain.MONTH, year.starts_at, year.ends_at)]
    odd = Period(date(2026, 1, 1), datetime(2026, 1, 1, 5, 45, tzinfo=UTC), datetime(2027, 1, 2, 5, 45, tzinfo=UTC))
    grains = [stretch.grain for stretch in cover(odd)]
    assert grains == ["quarter", "hour", "day", "pentad", "month", "day", "hour", "quarter"]


@pytest.mark.parametrize(
    ("day", "first"),
    [("01-31", "01-26"), ("02-28", "02-26"), ("04-30", "04-26"), ("01-25", "01-21"), ("01-05", "01-01")],
)
def test_five_days_lie_within_one_month(day: str, first: str) -> None:
    moment = datetime.fromisoformat(f"2026-{day}T23:59:59+00:00")
    assert floor(moment, Grain.PENTAD) == datetime.fromisoformat(f"2026-{first}T00:00:00+00:00")


def test_a_year_by_utc_from_any_day_on_is_few_sums() -> None:
    """Eleven months, five pentads of the month in which it begins and ends, and four or five days of two others."""
    most, day = 0, timedelta(days=1)
    for number in range(366):
        since = datetime(2023, 6, 1, tzinfo=UTC) + number * day  # the 29th of February is one of them
        sums = {
            (stretch.grain, floor(stretch.starts_at + place * day, stretch.grain))
            for stretch in cover(Period(since.date(), since, since + 365 * day))
            for place in range((stretch.ends_at - stretch.starts_at) // day)
        }
        most = max(most, len(sums))
    assert most == 22


def test_weeks_begin_on_mondays_and_the_edges_are_cut_off() -> None:
    found = list(steps(date(2026, 1, 1), date(2026, 1, 14), SeriesStep.WEEK, ZoneInfo("UTC")))
    assert [period.day for period in found] == [date(2026, 1, 1), date(2026, 1, 5), date(2026, 1, 12)]
    assert found[-1].ends_at == datetime(2026, 1, 15, tzinfo=UTC)


def test_a_day_on_which_the_clock_changes_has_its_own_length() -> None:
    (day,) = steps(date(2026, 3, 29), date(2026, 3, 29), SeriesStep.DAY, ZoneInfo("Europe/Berlin"))
    assert day.ends_at - day.starts_at == timedelta(hours=23)


def test_thirty_days_up_to_today_in_the_zone_are_the_default() -> None:
    periods = asked(timeZone="Asia/Tokyo").periods(NOW)  # where it is the eleventh already
    assert (periods[0].day, periods[-1].day, len(periods)) == (date(2026, 2, 10), date(2026, 3, 11), 30)
    before = asked(timeZone="Asia/Tokyo").period_before(periods)
    assert (before.day, before.ends_at) == (date(2026, 1, 11), periods[0].starts_at)


@pytest.mark.parametrize(
    "query",
    [
        {"from": "2026-02-02", "to": "2026-02-01"},
        {"from": "2020-01-01", "to": "2026-02-01"},
        {"from": "1970-01-01", "to": "9998-12-31", "step": "month"},
    ],
)
def test_ranges_that_run_backwards_or_are_too_long_are_refused(query: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="to: is"):
        asked(**query).periods(NOW)


def test_the_longest_range_is_answered() -> None:
    last = date(2026, 1, 1) + timedelta(days=MOST_STEPS - 1)
    assert len(asked(**{"from": "2026-01-01", "to": last.isoformat()}).periods(NOW)) == MOST_STEPS


@pytest.mark.parametrize(
    "name", ["", "berlin", "../../etc/passwd", "Europe/Berlin\x00", "localtime " * 9, "/etc/localtime"]
)
def test_other_names_of_zones_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        asked(timeZone=name)
