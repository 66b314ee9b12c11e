"""Slots of the providers' rate limits: shared through Valkey, and kept by each process alone while that is away."""

from __future__ import annotations

import logging
import re
import threading
from fnmatch import translate
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from external_apis.call_config import RateLimit
from external_apis.errors import ServiceUnavailable
from external_apis.rate_limit import (
    MAX_PAUSE_SECONDS,
    LocalLimiter,
    Turn,
    Windows,
    pause_seconds,
    slow_down,
    take_slot,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from connections.client.target import Target

__all__ = ["Lane"]

logger = logging.getLogger(__name__)

_ASK_AGAIN_SECONDS = 3.0
_PAUSE_SEEN_SECONDS = 0.5
_MOST_PAUSES = 10_000
_AHEAD_SECONDS = 0.004
_MOST_AHEAD, _SHARE_OF_BURST = 16, 8


class Lane:
    """The limits that the calls of one client go by."""

    def __init__(self, target: Target, base_path: str) -> None:
        config = target.config.rate_limit
        is_shared = config is not None and config.scope == "provider"
        self.scope_key = target.provider_id if is_shared else target.connection_id or target.provider_id
        self._windows = Windows.of(config or RateLimit(), self.scope_key)
        self._weights = _compile(config) if config else ()
        self._base_path = base_path.rstrip("/")

    def weigh(self, method: str, target: str) -> int:
        """Return what a call counts for; ``target`` is its path and query as sent."""
        if not self._weights:
            return 1
        call = f"{method} {target.partition('?')[0].removeprefix(self._base_path)}"
        return max((weight for expression, weight in self._weights if expression.fullmatch(call)), default=1)

    def take(self, cost: int, *, is_batch: bool, patience_seconds: float, heeds_pause: bool) -> float:
        """Take slots for ``cost`` and return 0, or take none and return the seconds until there are any."""
        if not self.scope_key:
            return 0.0  # a target of no row, as tests have it, shares nothing with anybody
        return _slots.take(self._windows, Turn(is_batch, patience_seconds, heeds_pause), cost)

    def slow_down(self, seconds: float) -> None:
        """Let nobody take a slot for so long, in any process."""
        if self.scope_key:
            _slots.slow_down(self.scope_key, min(seconds, MAX_PAUSE_SECONDS))


class _Ahead:
    """Slots that this process has taken for calls which are to be expected within 4 ms, so many come.

    That is less than the limits leave for calls that travel unequally fast, and few beside the smallest burst (none
    where that is small), so no window sees more than its number. Slots that nobody comes for are lost. One thread at a
    time takes more than its own.
    """

    __slots__ = ("_is_taking", "_left", "_lock", "_taken", "_until")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left, self._taken, self._until, self._is_taking = 0, 1, 0.0, False

    def use(self, now: float) -> bool:
        with self._lock:
            if now >= self._until or not self._left:
                return False
            self._left -= 1
            return True

    def take(self, now: float, burst: int, take: Callable[[int], float]) -> float:
        """Take a slot, and others ahead where that is worth while; returns how long to wait, as ``take`` does."""
        with self._lock:
            count, is_often = 1, now < self._until
            is_taker = is_often and not self._is_taking
            if is_taker:
                count = max(1, min(2 * self._taken, _MOST_AHEAD, burst // _SHARE_OF_BURST))
                self._is_taking = True
        try:
            wait = take(count)
            if wait and count > 1:
                count, wait = 1, take(1)
        finally:
            if is_taker:
                self._is_taking = False
        with self._lock:
            if wait:
                self.drop()
            elif is_taker or not is_often:
                left = self._left if now < self._until else 0
                self._left, self._taken, self._until = left + count - 1, count, now + _AHEAD_SECONDS
        return wait

    def drop(self) -> None:
        self._until = 0.0


class _Slots:
    """What this process knows about slots.

    Calls go on without Valkey, at `LocalLimiter`'s share of the limits: never unlimited, and never all refused. Batch
    calls have no manners then, and pauses are those that this process was told of. Where a provider has no limits
    there is no round trip to find a pause in; whether another process has met one is looked up twice a second.
    """

    def __init__(self) -> None:
        self._local = LocalLimiter()
        self._away_until = 0.0  # 0 while Valkey is there
        self._looking = threading.Lock()
        self._pauses: dict[str, tuple[float, float]] = {}  # scope to when it was looked up, and when it ends
        self._ahead: dict[str, _Ahead] = {}

    def take(self, windows: Windows, turn: Turn, cost: int) -> float:
        if not windows.limits:
            return self._pause_left(windows.scope_key) if turn.heeds_pause else 0.0
        if self._is_there():
            try:
                wait = self._take(windows, turn, cost)
            except ServiceUnavailable:
                self._note_absence()
            else:
                self._away_until = 0.0
                return wait
        _, ends = self._pauses.get(windows.scope_key, (0.0, 0.0))
        if turn.heeds_pause and (left := ends - monotonic()) > 0:
            return left
        decision = self._local.decide(windows.limits, cost)
        return 0.0 if decision.allowed else decision.retry_after_seconds

    def _take(self, windows: Windows, turn: Turn, cost: int) -> float:
        if cost > 1 or turn.is_batch or windows.heaviest < 2 * _SHARE_OF_BURST:
            return take_slot(windows, turn, cost)
        now, ahead = monotonic(), self._ahead.get(windows.scope_key)
        if ahead is None:
            if len(self._ahead) > _MOST_PAUSES:
                self._ahead = {}
            ahead = self._ahead[windows.scope_key] = _Ahead()
        if ahead.use(now):
            return 0.0
        return ahead.take(now, windows.heaviest, partial(take_slot, windows, turn))

    def slow_down(self, scope_key: str, seconds: float) -> None:
        if scope_key in self._ahead:
            self._ahead[scope_key].drop()
        self._remember_pause(scope_key, seconds)
        if self._is_there():
            try:
                slow_down(scope_key, seconds)
                self._away_until = 0.0
            except ServiceUnavailable:
                self._note_absence()

    def _pause_left(self, scope_key: str) -> float:
        now = monotonic()
        seen_at, ends = self._pauses.get(scope_key, (-_PAUSE_SEEN_SECONDS, 0.0))
        if now - seen_at >= _PAUSE_SEEN_SECONDS and self._is_there():
            try:
                self._remember_pause(scope_key, pause_seconds(scope_key))
                self._away_until = 0.0
            except ServiceUnavailable:
                self._note_absence()
            _, ends = self._pauses.get(scope_key, (0.0, ends))
        return max(0.0, ends - monotonic())

    def _remember_pause(self, scope_key: str, seconds: float) -> None:
        now = monotonic()
        if len(self._pauses) > _MOST_PAUSES:
            self._pauses = {scope: pause for scope, pause in self._pauses.items() if pause[1] > now}
        _, ends = self._pauses.get(scope_key, (0.0, 0.0))
        self._pauses[scope_key] = (now, max(ends, now + seconds if seconds else 0.0))

    def _is_there(self) -> bool:
        """Tell whether to ask Valkey; once it has been away for a while, one caller looks for all whether it is back.

        A hanging Valkey would otherwise cost every call its time-out.
        """
        if not self._away_until:
            return True
        with self._looking:
            now = monotonic()
            if now < self._away_until:
                return False
            self._away_until = now + _ASK_AGAIN_SECONDS
            return True

    def _note_absence(self) -> None:
        is_news = not self._away_until
        self._away_until = monotonic() + _ASK_AGAIN_SECONDS
        if is_news:
            logger.warning("Valkey is away; this process applies a 1/%d of each rate limit.", LocalLimiter.SHARE)


_slots = _Slots()


def _compile(config: RateLimit) -> tuple[tuple[re.Pattern[str], int], ...]:
    """Turn ``POST``, ``/path/*`` and ``POST /path/*`` into expressions for "POST /path/1"."""
    compiled = []
    for pattern, weight in config.weights.items():
        method, _, path = ("*", "", pattern) if pattern.startswith("/") else pattern.partition(" ")
        escaped = path.replace("[", "[[]").replace("?", "[?]") or "*"
        compiled.append((re.compile(translate(f"{method} {escaped}")), weight))
    return tuple(compiled)
