"""So many threads may wait for bodies that somebody sends slowly or never: the server gives a body no deadline."""

from __future__ import annotations

import threading

from external_apis.networks import counted_as

__all__ = ["Places"]


class Places:
    """``number`` may wait at a time, and a quarter of them, though two, for those of one address.

    Whoever finds none free waits ``patience_seconds`` for one.
    """

    def __init__(self, number: int, patience_seconds: float) -> None:
        self._most, self._most_of_one = number, max(2, number // 4)
        self._patience_seconds = patience_seconds
        self._changed = threading.Condition()
        self._all, self._taken, self._waiting = 0, dict[str | None, int](), 0

    def take(self, address: str | None) -> bool:
        """Take a place for a sender; False where none has become free in time."""
        counted = counted_as(address)
        with self._changed:
            if not self._has_room(counted):
                self._waiting += 1
                try:
                    if not self._changed.wait_for(lambda: self._has_room(counted), self._patience_seconds):
                        return False
                finally:
                    self._waiting -= 1
            self._all += 1
            self._taken[counted] = self._taken.get(counted, 0) + 1
            return True

    def leave(self, address: str | None) -> None:
        """Give a place back that was taken for this sender."""
        counted = counted_as(address)
        with self._changed:
            self._all -= 1
            self._taken[counted] -= 1
            if not self._taken[counted]:
                del self._taken[counted]
            if self._waiting:
                self._changed.notify_all()

    def _has_room(self, address: str | None) -> bool:
        return self._all < self._most and self._taken.get(address, 0) < self._most_of_one
