"""When tokens are renewed, tried again and warned of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from connections.oauth.due import back_off, margin_begin, renewal_time, warning_time

NOW = datetime(2026, 1, 15, tzinfo=UTC)


def test_a_thousand_tokens_of_one_hour_are_spread_and_each_keeps_its_moment() -> None:
    end = NOW + timedelta(hours=1)
    times = [renewal_time(f"conn_{number}", end, NOW, 300) for number in range(1000)]
    assert times == [renewal_time(f"conn_{number}", end, NOW, 300) for number in range(1000)]
    assert all(end - timedelta(minutes=10) <= moment <= end - timedelta(minutes=5) for moment in times)
    seconds = [int(moment.timestamp()) for moment in times]
    assert max(seconds.count(second) for second in set(seconds)) < 15


@pytest.mark.parametrize("life", [1, 60, 599, 601, 86_400])
def test_a_short_life_is_not_renewed_before_its_half(life: int) -> None:
    end = NOW + timedelta(seconds=life)
    assert NOW + timedelta(seconds=life) * 0.39 <= renewal_time("conn_a", end, NOW, 300) < end
    assert NOW + timedelta(seconds=life) / 2 <= margin_begin(end, NOW, 300) < end


def test_a_token_that_is_over_is_due_at_once() -> None:
    assert renewal_time("conn_a", NOW - timedelta(days=1), NOW, 300) <= NOW


def test_back_off_doubles_up_to_its_bound() -> None:
    pauses = [(back_off("conn_a", failures, NOW, None, None) - NOW).total_seconds() for failures in range(1, 12)]
    assert 24 <= pauses[0] <= 30
    assert pauses[:5] == sorted(pauses[:5])
    assert all(720 <= pause <= 900 for pause in pauses[5:])
    assert (back_off("conn_a", 32_000, NOW, NOW, None) - NOW).total_seconds() <= 300


def test_one_attempt_falls_into_the_last_half_minute() -> None:
    end = NOW + timedelta(seconds=400)
    assert back_off("conn_a", 9, NOW, end, None) == end - timedelta(seconds=30)
    assert back_off("conn_a", 9, end - timedelta(seconds=20), end, None) > end


def test_a_provider_may_ask_for_patience_but_not_for_ever() -> None:
    assert back_off("conn_a", 1, NOW, None, 77) == NOW + timedelta(seconds=77)
    assert back_off("conn_a", 1, NOW, None, 10**9) == NOW + timedelta(days=1)
    assert back_off("conn_a", 1, NOW, None, -5) == NOW + timedelta(seconds=1)


def test_warnings_come_a_day_before_or_at_half_the_life() -> None:
    assert warning_time(NOW + timedelta(days=30), NOW) == NOW + timedelta(days=29)
    assert warning_time(NOW + timedelta(hours=8), NOW) == NOW + timedelta(hours=4)
