"""Stores events, each once: those that come to a process at the same time in one statement, which is one commit.

One thread writes for all that wait, the next batch gathers meanwhile, and nobody goes on before his own is committed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connection

from connections.models import WebhookEvent

__all__ = ["store"]

_MOST = 100
_NAMES = (
    "id",
    "external_api_id",
    "tenant_id",
    "event_id",
    "event_type",
    "types",
    "status",
    "content",
    "received_at",
    "finished_at",
    "due_at",
    "request_id",
)
_VALUES = f"({', '.join(['%s'] * len(_NAMES))}, '{{}}', 0, 0)"
_INSERT = f"INSERT INTO {WebhookEvent._meta.db_table} ({', '.join(_NAMES)}, results, fence, attempts) VALUES "  # noqa: S608 (our own)
# Where an event comes twice in one statement, the second one changes nothing either.
_ONCE = " ON CONFLICT (external_api_id, event_id) DO NOTHING RETURNING id"


class _Place:
    """An event in the queue. Its thread is woken to write, or when it is known whether the event is new.

    Neither is the case where it was written for and that failed: then it writes its own alone.
    """

    def __init__(self, columns: Mapping[str, Any]) -> None:
        self.columns = columns
        self.turn = threading.Event()
        self.is_to_write = False
        self.is_new: bool | None = None


class _Queue:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[_Place] = []
        self._is_writing = False

    def store(self, columns: Mapping[str, Any]) -> bool:
        place = _Place(columns)
        self._enter(place)
        if not place.is_to_write:
            place.turn.wait()
        if place.is_to_write:
            self._write()
        return bool(_insert([columns])) if place.is_new is None else place.is_new

    def _enter(self, place: _Place) -> None:
        with self._lock:
            self._waiting.append(place)
            place.is_to_write, self._is_writing = not self._is_writing, True

    def _write(self) -> None:
        """Write the first that wait, the caller's own among them, and wake one of the next to write those."""
        with self._lock:
            batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
        try:
            new = _insert([place.columns for place in batch])
            for place in batch:
                place.is_new = place.columns["id"] in new
        except Exception:
            # It may be the fault of any of them, so that each is tried alone; one that was alone has been.
            if len(batch) == 1:
                raise
        finally:
            self._hand_over()
            for place in batch:
                place.turn.set()

    def _hand_over(self) -> None:
        with self._lock:
            self._is_writing = bool(self._waiting)
            if self._waiting:
                self._waiting[0].is_to_write = True
                self._waiting[0].turn.set()


_queue = _Queue()


def store(columns: Mapping[str, Any]) -> bool:
    """Store an event, given by its row's columns; tell whether it is new, and not one that is there already.

    It is committed on return, but for a caller's own transaction. Raises Django's database errors: then it is not
    stored.
    """
    if connection.in_atomic_block:
        return bool(_insert([columns]))  # a transaction that may be rolled back is no place for others' events
    return _queue.store(columns)


def _insert(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the ids of those that are new."""
    # Two processes that write the same events wait for each other in one order, and never both.
    ordered = sorted(rows, key=lambda row: (row["external_api_id"], row["event_id"]))
    values = [row[name] for row in ordered for name in _NAMES]
    with connection.cursor() as cursor:
        cursor.execute(_INSERT + ", ".join([_VALUES] * len(ordered)) + _ONCE, values)
        return {found for (found,) in cursor.fetchall()}


def _start_afresh() -> None:
    """A forked child has its parent's queue, and not the threads that wait in it."""
    global _queue  # noqa: PLW0603
    _queue = _Queue()


os.register_at_fork(after_in_child=_start_afresh)
