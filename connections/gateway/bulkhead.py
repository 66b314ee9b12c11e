"""How many threads of this process may wait for providers, so that a slow one does not hold up the others."""

from __future__ import annotations

import threading
from functools import lru_cache

from django.conf import settings

from external_apis.errors import TooManyCalls

__all__ = ["Berth", "Bulkhead", "bulkhead"]


class Bulkhead:
    """Counts the calls under way: ``total`` of them, and ``each`` through one connection."""

    def __init__(self, total: int, each: int) -> None:
        self.total, self.each = total, each
        self._lock = threading.Lock()
        self._under_way: dict[str, int] = {}
        self._sum = 0

    def enter(self, connection_id: str) -> Berth:
        """Take a place until `Berth.leave`. Raises `TooManyCalls`."""
        with self._lock:
            mine = self._under_way.get(connection_id, 0)
            if mine >= self.each or self._sum >= self.total:
                whose = "this connection" if mine >= self.each else "all connections"
                raise TooManyCalls(f"Too many calls through {whose} are under way in this process.")
            self._under_way[connection_id] = mine + 1
            self._sum += 1
        return Berth(self, connection_id)

    def leave(self, connection_id: str) -> None:
        """Give a place back."""
        with self._lock:
            self._sum -= 1
            self._under_way[connection_id] -= 1
            if not self._under_way[connection_id]:
                del self._under_way[connection_id]


class Berth:
    """One call's place; leaving it twice is leaving it once."""

    __slots__ = ("_bulkhead", "_connection_id")

    def __init__(self, held_by: Bulkhead, connection_id: str) -> None:
        self._bulkhead: Bulkhead | None = held_by
        self._connection_id = connection_id

    def leave(self) -> None:
        held_by, self._bulkhead = self._bulkhead, None
        if held_by is not None:
            held_by.leave(self._connection_id)


@lru_cache(maxsize=1)
def bulkhead() -> Bulkhead:
    """Return this process's: an eighth of its threads is never given to calls, so that everything else goes on."""
    total = max(1, settings.WEB_THREADS - max(1, settings.WEB_THREADS // 8))
    return Bulkhead(total, min(settings.GATEWAY_CALLS_PER_CONNECTION, max(1, total * 3 // 4)))
