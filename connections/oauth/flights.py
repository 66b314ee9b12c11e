"""One piece of work for all threads of this process that want it at the same time: the first does it for all."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

__all__ = ["Flights"]

T = TypeVar("T")


class Flights(Generic[T]):
    """Work by name. Whoever comes while it is under way gets its result, or its error."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flying: dict[str, Future[T]] = {}
        os.register_at_fork(after_in_child=self._forget)

    def join(self, name: str, work: Callable[[], T], timeout: float) -> T:
        """Return what ``work`` returns, done here or by the thread that came first.

        Raises what it raises, and `TimeoutError` where the first one takes longer than ``timeout`` seconds.
        """
        with self._lock:
            flight = self._flying.get(name)
            is_first = flight is None
            if flight is None:
                flight = self._flying[name] = Future()
        if not is_first:
            return flight.result(timeout)
        try:
            flight.set_result(work())
        except BaseException as error:
            flight.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._flying[name]
        return flight.result()

    def _forget(self) -> None:
        """The thread that was flying stayed in the parent."""
        self._lock, self._flying = threading.Lock(), {}
