"""What the sandbox remembers between requests: bounded, and forgotten at a reset."""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from connections.sandbox.answers import Answer
from connections.sandbox.bounded import Bounded
from connections.sandbox.oauth.memory import Memory

KEYS = 1_000
REQUESTS_PER_KEY = 100
NONCES = 100_000


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

    def __init__(self, callback_origins: Sequence[str] = ()) -> None:
        self.lock = threading.Lock()
        self._callback_origins = tuple(callback_origins)
        self.reset()

    def reset(self) -> None:
        self.ledger = Ledger()
        self.attempts: Bounded[int] = Bounded(KEYS)
        self.windows: Bounded[deque[float]] = Bounded(KEYS)
        self.nonces: Bounded[float] = Bounded(NONCES)
        self.budgets: Bounded[tuple[float, float]] = Bounded(KEYS)
        self.users: Bounded[dict[str, Any]] = Bounded(KEYS)
        self.made: Bounded[tuple[str, Answer | dict[str, Any]]] = Bounded(KEYS)
        self.objects: Bounded[dict[str, Any]] = Bounded(KEYS)
        self.messages: deque[dict[str, Any]] = deque(maxlen=KEYS)
        self._numbers = itertools.count(1)
        self.oauth = Memory(self._callback_origins)

    def make_id(self) -> str:
        """32 hexadecimal digits, which no other object gets: whoever asks twice has made two."""
        return hashlib.sha256(f"object {next(self._numbers)}".encode()).hexdigest()[:32]

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
