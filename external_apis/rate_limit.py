"""Rate limits: a GCRA in Valkey that decides any number of windows together, for calls out and for our own APIs.

GCRA keeps one number for a limit, the theoretical arrival time (ATM Forum TM 4.0, I.356): every admitted unit moves it
on by the emission interval, and a unit is admitted while it lies no further ahead of now than the burst allows. The
clock is Valkey's own, so that machines need not agree on the time.

A GCRA with burst b and emission interval e admits at most ``b + floor(T / e)`` units in a window T. Providers count a
window for themselves, so calls out use a small burst, ``b = max(1, N // 50)`` unless one is configured, and
``e = (T + 5 ms) / (N - b + 1)``, which admits exactly N in any window that is 5 ms longer than theirs, so that a call
that travels for so much longer than the next does not make one too many, and more than 97 % of N where calls never
cease. A larger burst lets more come at once after a rest, and fewer where they never cease. A weight of w calls needs a
burst of w or more. Our own APIs use burst N and ``e = T / N``: friendlier, and up to 2N in one window.

Calls out also heed, in the same round trip, the time until which the provider wants no call at all (`slow_down`), and
the time until which interactive calls wait, for which batch calls stand back.
"""

from __future__ import annotations

import hashlib
import struct
import threading
from dataclasses import dataclass, field
from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

import redis

from external_apis import valkey
from external_apis.errors import ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "MAX_PAUSE_SECONDS",
    "Decision",
    "Limit",
    "LocalLimiter",
    "Turn",
    "Windows",
    "charge",
    "decide",
    "outbound_limits",
    "own_limit",
    "pause_seconds",
    "slow_down",
    "take_slot",
]

_JITTER_US = 5_000

MAX_PAUSE_SECONDS = 3600.0
"""A provider that wants a longer rest than this is asked again after it, in case it erred."""


@dataclass(frozen=True, slots=True)
class Limit:
    """``burst`` units at once, then one every ``emission_us`` microseconds, counted under ``key``."""

    key: str
    count: int
    period_seconds: int
    burst: int
    emission_us: int

    def at_share(self, parts: int) -> Limit:
        """Return this limit with a 1/``parts`` share of its rate, and of its burst as far as that can be divided."""
        return Limit(self.key, self.count, self.period_seconds, max(1, self.burst // parts), self.emission_us * parts)


@dataclass(frozen=True, slots=True)
class Decision:
    """``remaining`` and ``reset_after_seconds`` speak of the tightest limit; ``limit`` is that one, or None."""

    allowed: bool
    retry_after_seconds: float = 0.0
    remaining: int = 0
    reset_after_seconds: float = 0.0
    limit: Limit | None = None


@dataclass(frozen=True, slots=True)
class Windows:
    """The limits of calls out in one scope, ready to be decided together."""

    scope_key: str
    limits: tuple[Limit, ...]
    heaviest: int
    """The largest cost that can ever be admitted."""
    rules: bytes = field(repr=False)

    @classmethod
    def of(cls, config: RateLimitConfig, scope_key: str) -> Windows:
        limits = outbound_limits(config, scope_key)
        rules = (_RULE.pack(_PLACES[limit.period_seconds], limit.emission_us, limit.burst) for limit in limits)
        return cls(scope_key, limits, min((limit.burst for limit in limits), default=1), b"".join(rules))


@dataclass(frozen=True, slots=True)
class Turn:
    """How a call out asks for its slot.

    A batch call (``is_batch``) stands back while an interactive one waits; one that waits for at most
    ``patience_seconds`` is known to wait. ``heeds_pause`` is off for whoever has just waited out the provider's pause.
    """

    is_batch: bool = False
    patience_seconds: float = 0.0
    heeds_pause: bool = True


class RateLimitConfig(Protocol):
    """The part of a provider's ``rate_limit`` block (seed 000) that is read here."""

    @property
    def requests_per_second(self) -> int | None: ...
    @property
    def requests_per_minute(self) -> int | None: ...
    @property
    def requests_per_hour(self) -> int | None: ...
    @property
    def requests_per_day(self) -> int | None: ...
    @property
    def burst(self) -> int | None: ...
    @property
    def weights(self) -> Mapping[str, int]: ...


def outbound_limits(config: RateLimitConfig, scope_key: str) -> tuple[Limit, ...]:
    """Return the limits of a provider, never more than N calls in any window; ``scope_key`` names who shares them."""
    windows = (
        ("second", 1, config.requests_per_second),
        ("minute", 60, config.requests_per_minute),
        ("hour", 3600, config.requests_per_hour),
        ("day", 86400, config.requests_per_day),
    )
    limits = []
    heaviest = max(config.weights.values(), default=1)
    for name, seconds, count in windows:
        if count is not None:
            burst = min(count, max(config.burst or count // 50, heaviest, 1))
            limits.append(
                Limit(
                    _key(scope_key, name),
                    count,
                    seconds,
                    burst,
                    _emission(seconds * 1_000_000 + _JITTER_US, count - burst + 1),
                )
            )
    return tuple(limits)


def own_limit(scope_key: str, count: int, period_seconds: int) -> Limit:
    """Return a limit for callers of our own APIs: all of ``count`` may come at once."""
    return Limit(
        _key(scope_key, str(period_seconds)), count, period_seconds, count, _emission(period_seconds * 1_000_000, count)
    )


def decide(limits: Sequence[Limit], cost: int = 1) -> Decision:
    """Charge ``cost`` units to every limit, or to none when one of them refuses, in one round trip.

    Raises ValueError for a cost that some limit's burst can never admit, and `ServiceUnavailable` without Valkey.
    """
    if not limits:
        return Decision(allowed=True)
    _check_cost(limits, cost)
    arguments: list[Any] = [cost]
    for limit in limits:
        arguments += (limit.emission_us, limit.burst)
    client = valkey.client()
    try:
        answer = _script(client)(keys=[limit.key for limit in limits], args=arguments, client=client)
    except redis.RedisError:
        raise ServiceUnavailable(valkey.UNAVAILABLE) from None
    return _decision(limits, [int(number) for number in answer])


def charge(limit: Limit, cost: int = 1) -> Decision:
    """Charge one limit: `decide` for the path of every request, which waits half a second at most.

    Raises `ServiceUnavailable` without Valkey.
    """
    with valkey.translate_errors():
        answer = _execute("decide", limit.key, cost, limit.emission_us, limit.burst)
    return _decision([limit], answer)


def take_slot(windows: Windows, turn: Turn, cost: int = 1) -> float:
    """Take ``cost`` slots of all windows and return 0, or none and return the seconds to wait, in one round trip.

    Raises ValueError for a cost that some window's burst can never admit, and `ServiceUnavailable` without Valkey.
    """
    if not 1 <= cost <= windows.heaviest:
        raise ValueError("a cost has to be at least 1 and at most the burst of each limit")
    asked = _ASKED.pack(cost, turn.is_batch, turn.heeds_pause, turn.patience_seconds * 1e6)
    try:
        return _run("take", windows.scope_key, asked + windows.rules) / 1e6
    except redis.RedisError:
        raise ServiceUnavailable(valkey.UNAVAILABLE) from None


def slow_down(scope_key: str, seconds: float) -> None:
    """Let no process take a slot of a scope for so long: the provider has said that it wants no call before.

    A longer pause that is set already stays. Raises `ServiceUnavailable` without Valkey.
    """
    if seconds > 0:
        with valkey.translate_errors():
            _run("pause", scope_key, min(seconds, MAX_PAUSE_SECONDS) * 1e6)


def pause_seconds(scope_key: str) -> float:
    """Return how long a scope is still slowed down; raises `ServiceUnavailable` without Valkey."""
    with valkey.translate_errors():
        return _run("pause", scope_key, 0) / 1e6


class LocalLimiter:
    """The same decision in this process's memory, for calls out while Valkey is away.

    It applies a quarter of each limit: processes cannot see each other then, and a few of them together are still
    to stay near what the provider allows, at the price of slower calls for as long as Valkey is away. ``now_us`` is
    a clock in microseconds.
    """

    SHARE = 4

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrivals: dict[str, int] = {}

    def decide(self, limits: Sequence[Limit], cost: int = 1, *, now_us: int | None = None) -> Decision:
        shares = [limit.at_share(self.SHARE) for limit in limits]
        now = int(monotonic() * 1e6) if now_us is None else now_us
        charged: dict[str, int] = {}
        wait, tightest, least, reset = 0, 0, -1, 0
        with self._lock:
            for index, limit in enumerate(shares):
                full = limit.burst * limit.emission_us
                arrival = min(max(self._arrivals.get(limit.key, 0), now), now + full)
                # A cost beyond the share's burst is charged in full and waited for by whoever comes next.
                needed = min(cost, limit.burst) * limit.emission_us
                wait = max(wait, arrival + needed - full - now)
                charged[limit.key] = arrival + cost * limit.emission_us
                remaining = (full - (arrival - now)) // limit.emission_us - cost
                if least < 0 or remaining < least:
                    tightest, least, reset = index, max(0, remaining), arrival - now
            if wait <= 0:
                self._arrivals.update(charged)
                self._forget(now)
        return Decision(wait <= 0, max(0, wait) / 1e6, max(0, least), reset / 1e6, limits[tightest] if limits else None)

    def _forget(self, now: int) -> None:
        if len(self._arrivals) > 10_000:
            self._arrivals = {key: arrival for key, arrival in self._arrivals.items() if arrival > now}


def _key(scope_key: str, window: str) -> str:
    # The braces keep the windows of one scope on one node of a cluster.
    return f"{valkey.PREFIX}limit:{{{scope_key}}}:{window}"


def _emission(period_us: int, units: int) -> int:
    return -(-period_us // units)  # rounded up: never one too many


def _check_cost(limits: Sequence[Limit], cost: int) -> None:
    if cost < 1 or any(cost > limit.burst for limit in limits):
        raise ValueError("a cost has to be at least 1 and at most the burst of each limit")


def _decision(limits: Sequence[Limit], answer: list[int]) -> Decision:
    wait_us, remaining, reset_us, tightest = answer
    return Decision(wait_us == 0, wait_us / 1e6, remaining, reset_us / 1e6, limits[tightest - 1])


def _run(name: str, scope_key: str, argument: bytes | float) -> int:
    return int(_execute(name, f"{valkey.PREFIX}slots:{scope_key}", argument))


def _execute(name: str, key: str, *arguments: bytes | float) -> Any:
    """Run a script by its digest: redis-py's own object for a script takes as long again as the round trip."""
    digest, text = _SCRIPTS[name]
    execute: Any = valkey.quick_client().execute_command
    try:
        return execute("EVALSHA", digest, 1, key, *arguments)
    except redis.exceptions.NoScriptError:
        return execute("EVAL", text, 1, key, *arguments)


@lru_cache(maxsize=8)
def _script(client: redis.Redis) -> Any:
    return client.register_script(_LUA)


# KEYS: one for a limit. ARGV: cost, then emission interval (us) and burst of each limit.
# Answers: wait (us, 0 when admitted), units left and time to full (us) of the tightest limit, and its index.
# An arrival time further ahead than a full burst comes from a changed limit or a clock set back, and is cut off.
_LUA = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local stored = redis.call('MGET', unpack(KEYS))
local cost = tonumber(ARGV[1])
local arrivals, wait = {}, 0
for i = 1, #KEYS do
  local emission, burst = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  local arrival = math.min(math.max(tonumber(stored[i] or 0), now), now + burst * emission)
  arrivals[i] = arrival
  wait = math.max(wait, arrival + cost * emission - burst * emission - now)
end
local least, reset, tightest = -1, 0, 1
for i = 1, #KEYS do
  local emission, burst = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  local arrival = arrivals[i]
  if wait <= 0 then
    arrival = arrival + cost * emission
    redis.call('SET', KEYS[i], string.format('%.0f', arrival), 'PX', math.ceil((arrival - now) / 1000) + 1)
  end
  local left = math.floor((burst * emission - (arrival - now)) / emission)
  if least < 0 or left < least then
    least, reset, tightest = left, arrival - now, i
  end
end
return {math.max(wait, 0), least, reset, tightest}
"""

# A scope of calls out is one value of six times (us): the end of the pause, the time until which interactive calls
# wait, and the arrival times of the four windows, in these places. Written and read as a whole, it costs a third of
# what a key for each would.
_PLACES = {1: 3, 60: 4, 3600: 5, 86400: 6}
_ASKED = struct.Struct("<4d")
_RULE = struct.Struct("<3d")

# ARGV: cost, whether a batch asks, whether the pause is heeded, longest wait (us) of who asks; then place, emission
# interval (us) and burst of each window. Answers: the wait (us), 0 when the slots are taken.
# Who waits is remembered for 50 ms longer than it takes, so that it finds its slot before a batch does.
_TAKE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local stored = redis.call('GET', KEYS[1])
local unpacked = struct.unpack
local times = {0, 0, 0, 0, 0, 0}
if stored then times = {unpacked('<dddddd', stored)} end
local asked = ARGV[1]
local cost, is_batch, heeds_pause, patience = unpacked('<dddd', asked)
local wait, last = 0, math.max(times[1], times[2])
for at = 33, #asked, 24 do
  local place, emission, burst = unpacked('<ddd', asked, at)
  local full, ahead = burst * emission, times[place] - now
  if ahead < 0 then ahead = 0 elseif ahead > full then ahead = full end
  ahead = ahead + cost * emission
  if ahead - full > wait then wait = ahead - full end
  times[place] = now + ahead
  if times[place] > last then last = times[place] end
end
if heeds_pause == 1 and times[1] - now > wait then wait = times[1] - now end
if is_batch == 1 and times[2] - now > wait then wait = times[2] - now end
if wait > 0 then
  if is_batch == 1 or wait > patience then return math.ceil(wait) end
  local waiting = math.max(times[2], now + wait + 50000)
  times = {0, 0, 0, 0, 0, 0}
  if stored then times = {unpacked('<dddddd', stored)} end
  times[2] = waiting
  last = math.max(unpack(times))
end
redis.call('SET', KEYS[1], struct.pack('<dddddd', unpack(times)), 'PX', math.ceil((last - now) / 1000) + 1)
return math.ceil(wait)
"""

# ARGV: how long (us) from now a pause is to last at least. Answers: how long (us) it does last.
_PAUSE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local stored = redis.call('GET', KEYS[1])
local times = {0, 0, 0, 0, 0, 0}
if stored then times = {struct.unpack('<dddddd', stored)} end
local asked = tonumber(ARGV[1])
if asked > 0 and now + asked > times[1] then
  times[1] = now + asked
  local life = math.ceil((math.max(unpack(times)) - now) / 1000) + 1
  redis.call('SET', KEYS[1], struct.pack('<dddddd', unpack(times)), 'PX', life)
end
return math.max(math.ceil(times[1] - now), 0)
"""

_SCRIPTS = {
    name: (hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), text)  # Valkey's name for it
    for name, text in (("decide", _LUA), ("take", _TAKE), ("pause", _PAUSE))
}
