"""What a decision over four windows costs, in units of a bare round trip to the same Valkey."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from external_apis import valkey
from external_apis.call_config import RateLimit
from external_apis.rate_limit import Turn, Windows, take_slot

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

ROUNDS, CALLS = 25, 200


def seconds_of(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - started) / CALLS


def test_four_windows_cost_little_more_than_a_round_trip(capsys: pytest.CaptureFixture[str]) -> None:
    scope = uuid4().hex
    config = RateLimit(
        requests_per_second=100_000,
        requests_per_minute=5_000_000,
        requests_per_hour=100_000_000,
        requests_per_day=1_000_000_000,
    )
    windows, turn, client = Windows.of(config, scope), Turn(patience_seconds=30), valkey.client()
    calls: dict[str, Callable[[], Any]] = {"ping": client.ping, "decide": lambda: take_slot(windows, turn)}
    times: dict[str, list[float]] = {name: [seconds_of(call)][:0] for name, call in calls.items()}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            times[name].append(seconds_of(call))
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratio = medians["decide"] / medians["ping"]
    with capsys.disabled():
        print(
            f"\nA decision over four windows / a bare round trip: {ratio:.2f} ({medians['decide'] * 1e6:.0f} us, "
            f"{medians['ping'] * 1e6:.0f} us)"
        )
    assert ratio < 1.5
