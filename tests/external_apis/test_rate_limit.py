"""The limiter: exact in every window, all limits or none, shared by processes, and never silently off."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from external_apis import valkey
from external_apis.call_config import RateLimit
from external_apis.errors import ServiceUnavailable
from external_apis.rate_limit import (
    Limit,
    LocalLimiter,
    Turn,
    Windows,
    decide,
    outbound_limits,
    own_limit,
    pause_seconds,
    slow_down,
    take_slot,
)


@pytest.fixture
def scope() -> str:
    return f"test_{uuid4().hex}"


def window(scope: str, count: int, seconds: str = "second") -> tuple[Limit, ...]:
    return outbound_limits(RateLimit.model_validate({f"requests_per_{seconds}": count}), scope)


@given(
    st.integers(1, 100_000),
    st.sampled_from(["second", "minute", "hour", "day"]),
    st.none() | st.integers(1, 200_000),
    st.integers(1, 10_000),
)
def test_a_window_never_admits_more_than_its_count(count: int, seconds: str, burst: int | None, weight: int) -> None:
    """What GCRA admits from an idle start: the burst, and one more each interval until the window has passed.

    Calls do not travel equally fast, so the provider's window may see 5 ms more of ours than it is long.
    """
    weights = {"POST": min(weight, count)}
    config = RateLimit.model_validate({f"requests_per_{seconds}": count, "burst": burst, "weights": weights})
    (limit,) = outbound_limits(config, "a")
    assert limit.burst >= weights["POST"]
    period_us = limit.period_seconds * 1_000_000
    admitted = limit.burst + (period_us + 5_000 - 1) // limit.emission_us
    assert admitted <= count
    assert limit.burst >= 1


@given(st.integers(1, 300), st.lists(st.integers(0, 200_000), min_size=1, max_size=400))
def test_any_arrivals_stay_within_the_window(count: int, gaps: list[int]) -> None:
    """The same arithmetic in memory, under a clock of the test's own: a quarter of each limit, in any window."""
    limiter, (limit,) = LocalLimiter(), window("a", count)
    now, admitted = 0, []
    for gap in gaps:
        now += gap
        if limiter.decide([limit], now_us=now).allowed:
            admitted.append(now)
    for start in admitted:
        assert sum(start <= moment < start + 1_000_000 for moment in admitted) <= max(1, -(-count // 4))


def test_only_the_windows_that_are_configured_limit(scope: str) -> None:
    config = RateLimit(requests_per_second=10, requests_per_day=86_400)
    limits = outbound_limits(config, scope)
    assert [(limit.count, limit.period_seconds) for limit in limits] == [(10, 1), (86_400, 86_400)]
    assert outbound_limits(RateLimit(), scope) == ()
    assert decide(()).allowed


def test_the_second_call_waits_for_its_interval(scope: str) -> None:
    limits = window(scope, 10, "minute")  # burst 1, one each 6 s
    first, second = decide(limits), decide(limits)
    assert first.allowed
    assert not second.allowed
    assert 5.5 < second.retry_after_seconds <= 6.001
    assert second.limit == limits[0]


def test_nothing_is_charged_when_one_limit_refuses(scope: str) -> None:
    wide, narrow = own_limit(f"{scope}w", 100, 3600), own_limit(f"{scope}n", 2, 3600)
    assert [decide([wide, narrow]).allowed for _ in range(5)] == [True, True, False, False, False]
    refusal = decide([wide, narrow])
    assert refusal.limit == narrow
    assert decide([wide]).remaining == 97


def test_our_own_limits_admit_their_count_at_once(scope: str) -> None:
    limit = own_limit(scope, 5, 60)
    decisions = [decide([limit]) for _ in range(6)]
    assert [decision.allowed for decision in decisions] == [True] * 5 + [False]
    assert [decision.remaining for decision in decisions] == [4, 3, 2, 1, 0, 0]
    assert 11 < decisions[-1].retry_after_seconds <= 12
    assert 59 < decisions[-1].reset_after_seconds <= 60


def test_a_cost_counts_as_so_many_calls(scope: str) -> None:
    limit = own_limit(scope, 5, 60)
    assert decide([limit], cost=4).remaining == 1
    assert not decide([limit], cost=2).allowed
    assert decide([limit], cost=1).allowed


@pytest.mark.parametrize("cost", [0, -1, 6])
def test_a_cost_that_could_never_pass_is_an_error(scope: str, cost: int) -> None:
    with pytest.raises(ValueError, match="cost"):
        decide([own_limit(scope, 5, 60)], cost=cost)


def test_keys_expire(scope: str) -> None:
    limits = (*window(scope, 10, "minute"), *window(scope, 10, "hour"))
    decide(limits)
    lives: list[Any] = [valkey.client().pttl(limit.key) for limit in limits]
    assert 0 < lives[0] <= 6_100
    assert 350_000 < lives[1] <= 360_100


def test_a_limit_that_was_made_wider_takes_effect_at_once(scope: str) -> None:
    tight = window(scope, 1, "day")
    assert decide(tight).allowed
    assert decide(tight).retry_after_seconds > 80_000
    assert decide(window(scope, 86_400, "day")).retry_after_seconds < 86_400 / 24


def test_many_threads_together_never_exceed_the_limit(scope: str) -> None:
    limits, admitted, lock = window(scope, 50), [], threading.Lock()
    end = time.monotonic() + 1.3

    def hammer() -> None:
        while time.monotonic() < end:
            if decide(limits).allowed:
                with lock:
                    admitted.append(time.monotonic())

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    admitted.sort()
    # Moments are noted a little after Valkey's decision: a window of 0.97 s allows for that.
    assert max(sum(start <= moment < start + 0.97 for moment in admitted) for start in admitted) <= 50
    assert len(admitted) >= 55


TAKE = """
import sys, django
django.setup()
from external_apis.rate_limit import Limit, decide
limit = Limit(sys.argv[1], 5, 3600, 5, 720_000_000)
print(sum(decide([limit]).allowed for _ in range(10)))
"""


def test_processes_share_a_limit(scope: str) -> None:
    taken = [
        subprocess.run(
            [sys.executable, "-c", TAKE, f"{valkey.PREFIX}{scope}"], capture_output=True, text=True, check=True
        )
        for _ in range(2)
    ]
    assert [int(process.stdout) for process in taken] == [5, 0]


def test_without_valkey_a_decision_is_an_error_that_names_no_address(settings: Any) -> None:
    settings.REDIS_URL = "redis://:hunter22@127.0.0.1:1/0"
    with pytest.raises(ServiceUnavailable) as caught:
        decide([own_limit("a", 1, 1)])
    assert caught.value.message == "Valkey is unavailable."
    assert caught.value.__cause__ is None


def test_in_memory_all_limits_are_charged_or_none() -> None:
    limiter, wide, narrow = LocalLimiter(), own_limit("w", 400, 3600), own_limit("n", 8, 3600)
    allowed = [limiter.decide([wide, narrow], now_us=1).allowed for _ in range(5)]
    assert allowed == [True, True, False, False, False]
    assert limiter.decide([wide], now_us=1).remaining == 97


def test_in_memory_a_refusal_names_the_time_of_the_next_slot() -> None:
    limiter, limits = LocalLimiter(), window("a", 60, "minute")
    assert limiter.decide(limits, now_us=0).allowed
    wait = limiter.decide(limits, now_us=0).retry_after_seconds
    assert not limiter.decide(limits, now_us=int(wait * 1e6) - 1).allowed
    assert limiter.decide(limits, now_us=int(wait * 1e6)).allowed


def test_memory_forgets_limits_that_have_recovered() -> None:
    limiter = LocalLimiter()
    for number in range(10_100):
        limiter.decide([own_limit(str(number), 1000, 1)], now_us=number * 1_000_000)
    assert len(limiter._arrivals) < 10_002


# --- slots of calls out ---


def windows(scope: str, **config: Any) -> Windows:
    return Windows.of(RateLimit.model_validate(config), scope)


def test_all_windows_are_charged_or_none(scope: str) -> None:
    both = windows(scope, requests_per_minute=60, requests_per_day=2, burst=2)
    assert [take_slot(both, Turn()) for _ in range(2)] == [0, 0]
    assert 80_000 < take_slot(both, Turn()) <= 86_400.005
    # The minute's burst was not touched by the refusal: it has no call left, and gives the next one in about a second.
    assert take_slot(windows(scope, requests_per_minute=60, burst=2), Turn()) <= 60 / 59


def test_a_burst_may_come_at_once(scope: str) -> None:
    bucket = windows(scope, requests_per_hour=100, burst=40)
    assert [take_slot(bucket, Turn()) for _ in range(40)] == [0] * 40
    assert take_slot(bucket, Turn()) == pytest.approx(3600 / 61, abs=0.5)


def test_a_weighty_call_takes_so_many_slots(scope: str) -> None:
    heavy = windows(scope, requests_per_hour=100, burst=10, weights={"POST": 10})
    assert take_slot(heavy, Turn(), 9) == 0
    assert take_slot(heavy, Turn(), 2) > 0
    assert take_slot(heavy, Turn(), 1) == 0
    with pytest.raises(ValueError, match="cost"):
        take_slot(heavy, Turn(), 11)


def test_a_wider_limit_takes_effect_at_once(scope: str) -> None:
    assert take_slot(windows(scope, requests_per_day=1), Turn()) == 0
    assert take_slot(windows(scope, requests_per_day=1), Turn()) > 80_000
    assert take_slot(windows(scope, requests_per_day=86_400), Turn()) < 86_400 / 24


def test_batch_calls_stand_back_while_an_interactive_one_waits(scope: str) -> None:
    slow = windows(scope, requests_per_second=10)
    assert take_slot(slow, Turn(is_batch=True)) == 0
    wait = take_slot(slow, Turn(patience_seconds=30))
    assert 0 < wait <= 0.1005
    time.sleep(wait)
    assert 0 < take_slot(slow, Turn(is_batch=True)) <= 0.06, "the slot is free, and kept for whoever waited for it"
    assert take_slot(slow, Turn(patience_seconds=30)) == 0
    time.sleep(0.16)
    assert take_slot(slow, Turn(is_batch=True)) == 0


def test_who_gives_up_keeps_nobody_waiting(scope: str) -> None:
    slow = windows(scope, requests_per_second=10)
    take_slot(slow, Turn())
    wait = take_slot(slow, Turn(patience_seconds=0.001))
    time.sleep(wait + 0.001)
    assert take_slot(slow, Turn(is_batch=True)) == 0


def test_a_pause_holds_for_everybody_but_those_who_waited_it_out(scope: str) -> None:
    wide = windows(scope, requests_per_second=1000)
    assert pause_seconds(scope) == 0
    slow_down(scope, 30)
    slow_down(scope, 10)
    assert 29 < take_slot(wide, Turn()) <= 30
    assert 29 < pause_seconds(scope) <= 30
    assert take_slot(wide, Turn(heeds_pause=False)) == 0
    assert 29 < take_slot(wide, Turn()) <= 30, "a slot that was taken does not end the pause"


def test_a_pause_is_bounded(scope: str) -> None:
    slow_down(scope, 1e12)
    assert 3599 < pause_seconds(scope) <= 3600


def test_what_a_scope_leaves_behind_expires(scope: str) -> None:
    take_slot(windows(scope, requests_per_second=100), Turn())
    (key,) = valkey.client().keys(f"{valkey.PREFIX}slots:{scope}*")
    left: Any = valkey.client().pttl(key)
    assert 0 < left <= 15


def test_a_script_that_valkey_has_forgotten_is_sent_again(scope: str) -> None:
    valkey.client().script_flush()
    assert take_slot(windows(scope, requests_per_day=1), Turn()) == 0
    assert take_slot(windows(scope, requests_per_day=1), Turn()) > 0


HAMMER = """
import json, multiprocessing, sys, time, django
django.setup()
from external_apis.call_config import RateLimit
from external_apis.rate_limit import Turn, Windows, take_slot

def hammer(begin):
    windows, turn = Windows.of(RateLimit(requests_per_second=400), sys.argv[1]), Turn()
    taken, asked = [], 0
    while (before := time.time()) < begin + 3:
        if before < begin + asked / 500:
            time.sleep(begin + asked / 500 - before)
            continue
        asked += 1
        if take_slot(windows, turn) == 0:
            taken.append((before, time.time()))
    return asked, taken

with multiprocessing.get_context("fork").Pool(8) as pool:
    print(json.dumps(pool.map(hammer, [time.time() + 0.3] * 8, chunksize=1)))
"""


def test_eight_processes_at_ten_times_the_limit_use_it_and_never_exceed_it(scope: str) -> None:
    """400 a second, asked for 4,000 times a second; a busy machine may manage fewer asks, but enough."""
    finished = subprocess.run([sys.executable, "-c", HAMMER, scope], capture_output=True, text=True, check=True)
    asked, taken = 0, []
    for asks, slots in json.loads(finished.stdout):
        asked += asks
        taken += slots
    # Each slot was given between two readings of the clock: slots that surely lie within one second are counted.
    for start, _ in taken:
        assert sum(start <= before and after < start + 1 for before, after in taken) <= 400
    assert asked >= 4 * 1200
    assert len(taken) >= 0.97 * 3 * 400
