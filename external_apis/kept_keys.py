"""Stored keys that this process keeps for a moment, for callers whose every request would be slowed down by a query.

A kept key is used only while the database has confirmed it within the last `_TRUST_SECONDS`. A thread asks for all kept
keys together some times a second, so a revocation counts within a second however it was made, and while the database is
away nothing that is kept is used.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, sleep

from django.db import connection

from external_apis import key_lookup
from external_apis.key_lookup import StoredKey

__all__ = ["find_by_id", "find_by_token", "forget"]

logger = logging.getLogger(__name__)

_MOST = 1_000
_TRUST_SECONDS, _ASK_SECONDS, _IDLE_SECONDS = 0.8, 0.35, 5.0


@dataclass(slots=True)
class _Kept:
    key: StoredKey
    confirmed_at: float
    used_at: float


class _Shelf:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[bytes, _Kept] = {}
        self._thread: threading.Thread | None = None
        self._is_away = False  # the database: one line tells of that

    def find(self, name: bytes, load: Callable[[], StoredKey | None]) -> StoredKey | None:
        now = monotonic()
        kept = self._kept.get(name)
        if kept is not None and now - kept.confirmed_at < _TRUST_SECONDS:
            kept.used_at = now
            return kept.key
        key = load()
        if key is not None:
            self._keep(name, _Kept(key, now, now))
        return key

    def forget(self) -> None:
        with self._lock:
            self._kept.clear()

    def _keep(self, name: bytes, kept: _Kept) -> None:
        with self._lock:
            if len(self._kept) >= _MOST:
                del self._kept[next(iter(self._kept))]
            self._kept[name] = kept
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="kept-keys", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            sleep(_ASK_SECONDS)
            with self._lock:
                idle_since = monotonic() - _IDLE_SECONDS
                self._kept = {name: kept for name, kept in self._kept.items() if kept.used_at > idle_since}
                before = dict(self._kept)
                if not before:
                    self._thread = None
                    return
            self._confirm(before)

    def _confirm(self, before: dict[bytes, _Kept]) -> None:
        """Let go of what the database has otherwise by now; what it does not answer for is not used any more."""
        began = monotonic()
        try:
            today = key_lookup.find_many({kept.key.id for kept in before.values()})
        except Exception as error:  # whatever it is: what is not confirmed is not used
            if not self._is_away:
                logger.warning("kept keys cannot be compared with the database (%s)", type(error).__name__)
            self._is_away = True
            return
        finally:
            connection.close()
        self._is_away = False
        with self._lock:
            for name, kept in before.items():
                if today.get(kept.key.id) == kept.key:
                    kept.confirmed_at = began
                elif self._kept.get(name) is kept:
                    del self._kept[name]


_shelf = _Shelf()


def find_by_token(token: str) -> StoredKey | None:
    """`key_lookup.find_by_token`, without a query for a key that was sent a moment ago."""
    name = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
    return _shelf.find(name, lambda: key_lookup.find_by_token(token))


def find_by_id(key_id: str) -> StoredKey | None:
    """`key_lookup.find_by_id`, likewise."""
    return _shelf.find(key_id.encode(), lambda: key_lookup.find_by_id(key_id))


def forget() -> None:
    """Drop what this process keeps."""
    _shelf.forget()


def _start_afresh() -> None:
    """A forked child has its parent's memory and not its thread."""
    global _shelf  # noqa: PLW0603
    _shelf = _Shelf()


os.register_at_fork(after_in_child=_start_afresh)
