"""What the sandbox remembers between requests: bounded, and forgotten at a reset."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

KEYS = 1_000
REQUESTS_PER_KEY = 100
NONCES = 100_000

Value = TypeVar("Value")


class Bounded(OrderedDict[str, Value], Generic[Value]):
    """A mapping that forgets its oldest key when it holds more than ``limit``."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def __setitem__(self, key: str, value: Value) -> None:
        super().__setitem__(key, value)
        if len(self) > self._limit:
            del self[next(iter(self))]


class Ledger:
    """Which requests arrived under which key; the latest ``REQUESTS_PER_KEY`` of each are kept, all are counted."""

    def __init__(self) -> None:
        self.total = 0
        self._counts: Bounded[int] = Bounded(KEYS)
        self._latest: Bounded[deque[dict[str, Any]]] = Bounded(KEYS)

    def record(self, key: str, entry: dict[str, Any]) -> None:
        self._counts[key] = self._counts.get(key, 0) + 1
        if key not in self._latest:
            self._latest[key] = deque(maxlen=REQUESTS_PER_KEY)
        self._latest[key].append(entry)

    def describe(self, key: str) -> dict[str, Any]:
        return {"key": key, "count": self._counts.get(key, 0), "requests": list(self._latest.get(key, ()))}

    def describe_all(self) -> dict[str, Any]:
        return {"total": self.total, "counts": dict(self._counts)}


class State:
    """One per process. Handlers hold ``lock`` while they touch it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        self.ledger = Ledger()
        self.attempts: Bounded[int] = Bounded(KEYS)
        self.windows: Bounded[deque[float]] = Bounded(KEYS)
        self.nonces: Bounded[float] = Bounded(NONCES)
        self.budgets: Bounded[tuple[float, float]] = Bounded(KEYS)
        self.users: Bounded[dict[str, Any]] = Bounded(KEYS)

    def use_nonce(self, nonce: str) -> bool:
        """Remember a nonce; False when it was used before."""
        with self.lock:
            if nonce in self.nonces:
                return False
            self.nonces[nonce] = time.time()
            return True


def now_text() -> str:
    """The present time in UTC, with microseconds, so that a test can measure distances."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
