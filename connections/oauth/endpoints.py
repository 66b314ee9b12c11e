"""How many may ask one token endpoint at a time, and when it is left in peace because it does not answer.

After two failures in a row that took long, it is closed for a minute; then one is let through to see, and if that one
waits in vain too, it is closed for twice as long, up to ten minutes. Each process learns for itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

__all__ = ["Admission", "Endpoints"]

_MOST_AT_A_TIME = 4
_SILENCES = 2
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 60.0, 600.0


class Admission(Enum):
    """Whether a request may go now, should wait for those under way, or should not go for a while."""

    GO = auto()
    WAIT = auto()
    NO = auto()


@dataclass(slots=True)
class _Endpoint:
    flying: int = 0
    silences: int = 0
    pause_seconds: float = 0.0
    closed_until: float = 0.0


class Endpoints:
    """All token endpoints that this process asks, by name; ``clock`` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, _Endpoint] = {}

    def admit(self, name: str) -> Admission:
        """Tell whether an endpoint may be asked now; each ``GO`` is to be followed by one `note`."""
        with self._lock:
            endpoint = self._known.setdefault(name, _Endpoint())
            is_doubtful = endpoint.silences >= _SILENCES
            if is_doubtful and (endpoint.flying or self._clock() < endpoint.closed_until):
                return Admission.NO
            if endpoint.flying >= _MOST_AT_A_TIME:
                return Admission.WAIT
            endpoint.flying += 1
            return Admission.GO

    def note(self, name: str, *, is_silent: bool) -> None:
        """Note how a request ended."""
        with self._lock:
            endpoint = self._known[name]
            endpoint.flying -= 1
            if not is_silent:
                endpoint.silences, endpoint.pause_seconds = 0, 0.0
                if not endpoint.flying:
                    del self._known[name]
                return
            endpoint.silences += 1
            now = self._clock()
            if endpoint.silences >= _SILENCES and now >= endpoint.closed_until:
                pause = max(endpoint.pause_seconds * 2, _FIRST_PAUSE_SECONDS)
                endpoint.pause_seconds = min(pause, _LONGEST_PAUSE_SECONDS)
                endpoint.closed_until = now + endpoint.pause_seconds
