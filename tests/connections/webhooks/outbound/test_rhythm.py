"""Svix's rhythm."""

from __future__ import annotations

from connections.webhooks.outbound.rhythm import ATTEMPTS, wait_after


def waits(chance: float) -> list[float]:
    found = [wait_after(attempt, chance) for attempt in range(1, ATTEMPTS)]
    return [wait.total_seconds() for wait in found if wait is not None]


def test_at_once_and_then_seven_times() -> None:
    assert waits(0) == [5, 300, 1800, 7200, 18000, 36000, 36000]
    assert wait_after(ATTEMPTS, 0) is None
    assert wait_after(ATTEMPTS + 3, 0, 10) is None


def test_jitter_only_adds_a_little() -> None:
    assert all(plain < late <= 1.1 * plain for plain, late in zip(waits(0), waits(1), strict=True))


def test_retry_after_within_bounds() -> None:
    for asked, seconds in ((60.0, 60), (1.0, 5), (1e9, 36000), (None, 5), (-5.0, 5)):
        wait = wait_after(1, 0, asked)
        assert wait is not None
        assert wait.total_seconds() == seconds
