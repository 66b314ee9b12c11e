"""Ids in the order in which they are made."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from external_apis import ids

MOMENT = datetime(2026, 1, 15, 10, 30, 0, 123_000, tzinfo=UTC)
NANOSECONDS = int(MOMENT.timestamp() * 1000) * 1_000_000


def made_at(monkeypatch: pytest.MonkeyPatch, nanoseconds: int) -> str:
    monkeypatch.setattr("time.time_ns", lambda: nanoseconds)
    return ids.new_id("evt")


def test_ids_of_one_millisecond_are_in_order_too(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [made_at(monkeypatch, NANOSECONDS + microsecond * 1000) for microsecond in range(1000)]
    assert made == sorted(made)
    assert {len(one) for one in made} == {len("evt_") + 26}
    assert len({made_at(monkeypatch, NANOSECONDS) for _ in range(100)}) == 100


def test_the_first_id_of_a_moment_is_before_all_others_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    first = ids.first_id("evt", MOMENT)
    assert made_at(monkeypatch, NANOSECONDS - 1) < first <= made_at(monkeypatch, NANOSECONDS)
    assert ids.first_id("evt", datetime(1969, 1, 1, tzinfo=UTC)) == f"evt_{'0' * 26}"
