"""Slots that are taken ahead: in few round trips, for calls that come at once, and for no others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from connections.client import slots
from external_apis.rate_limit import Turn, Windows

NOW = 1000.0
BURST = 1000
INTERACTIVE, BATCH = Turn(), Turn(is_batch=True)
WINDOWS = cast("Windows", SimpleNamespace(limits=(1,), heaviest=BURST, scope_key="p"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many slots each round trip asked for, all of them within one moment."""
    counts: list[int] = []

    def take(_windows: Windows, _turn: Turn, count: int) -> float:
        counts.append(count)
        return 0.0

    monkeypatch.setattr(slots, "take_slot", take)
    monkeypatch.setattr(slots, "slow_down", lambda *_: None)
    monkeypatch.setattr(slots, "monotonic", lambda: NOW)
    return counts


def test_calls_that_come_at_once_share_round_trips(asked: list[int]) -> None:
    known = slots._Slots()
    assert [known.take(WINDOWS, INTERACTIVE, 1) for _ in range(5)] == [0.0] * 5
    assert asked == [1, 2, 4]


def test_what_was_taken_ahead_is_soon_lost(asked: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """By then the provider may have given its slots to others."""
    known = slots._Slots()
    for _ in range(2):
        known.take(WINDOWS, INTERACTIVE, 1)
    monkeypatch.setattr(slots, "monotonic", lambda: NOW + slots._AHEAD_SECONDS)
    known.take(WINDOWS, INTERACTIVE, 1)
    assert asked == [1, 2, 1]


@pytest.mark.parametrize(("turn", "cost"), [(BATCH, 1), (INTERACTIVE, 3)], ids=["batch", "weighty"])
def test_only_a_light_interactive_call_uses_what_was_taken_ahead(asked: list[int], turn: Turn, cost: int) -> None:
    """A batch call would go before an interactive one that waits, and a weighty one go for a light one."""
    known = slots._Slots()
    for _ in range(2):
        known.take(WINDOWS, INTERACTIVE, 1)
    known.take(WINDOWS, turn, cost)
    assert asked == [1, 2, cost]
    known.take(WINDOWS, INTERACTIVE, 1)
    assert asked == [1, 2, cost], "the slot is still there for whom it was taken"


def test_a_pause_drops_what_was_taken_ahead(asked: list[int]) -> None:
    known = slots._Slots()
    for _ in range(2):
        known.take(WINDOWS, INTERACTIVE, 1)
    known.slow_down("p", 1.0)
    known.take(WINDOWS, INTERACTIVE, 1)
    assert asked == [1, 2, 1]


def test_one_thread_at_a_time_takes_ahead() -> None:
    """Of many that find nothing left each would take sixteen."""
    ahead, asked = slots._Ahead(), list[int]()

    def take(count: int) -> float:
        asked.append(count)
        if len(asked) == 2:  # while the second round trip is under way another thread wants a slot
            assert ahead.take(NOW, BURST, take) == 0.0
        return 0.0

    for _ in range(2):
        ahead.take(NOW, BURST, take)
    assert asked == [1, 2, 1]
    assert ahead.use(NOW)
    assert not ahead.use(NOW)
    ahead.take(NOW, BURST, take)
    assert asked == [1, 2, 1, 4], "whoever took ahead has let others have their turn"


def test_a_call_that_has_to_wait_leaves_nothing_to_use() -> None:
    """Whoever asks next is to hear of the wait, too; and one slot may be there where several are not."""
    ahead, asked, waits = slots._Ahead(), list[int](), iter([0.0, 0.0, 5.0, 3.0, 0.0])

    def take(count: int) -> float:
        asked.append(count)
        return next(waits)

    # The third is a thread that found nothing just before the second one had its two.
    assert [ahead.take(NOW, BURST, take) for _ in range(3)] == [0.0, 0.0, 3.0]
    assert asked == [1, 2, 4, 1]
    assert not ahead.use(NOW)
    ahead.take(NOW, BURST, take)
    assert asked[4:] == [1]


def test_who_fails_to_take_ahead_leaves_that_to_others() -> None:
    ahead, asked = slots._Ahead(), list[int]()

    def take(count: int) -> float:
        asked.append(count)
        return 0.0

    def fail(_count: int) -> Any:
        raise OSError

    ahead.take(NOW, BURST, take)
    with pytest.raises(OSError):
        ahead.take(NOW, BURST, fail)
    ahead.take(NOW, BURST, take)
    assert asked == [1, 2]
