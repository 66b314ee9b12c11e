"""Reads the body of a webhook, of which anybody may announce one and never send it."""

from __future__ import annotations

import threading

from django.conf import settings
from django.http import HttpRequest

from external_apis import request_context
from external_apis.networks import counted_as

__all__ = ["read_body"]

_WAIT_SECONDS = 0.25


class _Places:
    """So many may wait for bodies, and a quarter of them for those of one address."""

    def __init__(self, number: int) -> None:
        self._most, self._most_of_one = number, max(2, number // 4)
        self._changed = threading.Condition()
        self._all, self._taken, self._waiting = 0, dict[str | None, int](), 0

    def take(self, address: str | None) -> bool:
        with self._changed:
            if not self._has_room(address):
                self._waiting += 1
                try:
                    if not self._changed.wait_for(lambda: self._has_room(address), _WAIT_SECONDS):
                        return False
                finally:
                    self._waiting -= 1
            self._all += 1
            self._taken[address] = self._taken.get(address, 0) + 1
            return True

    def leave(self, address: str | None) -> None:
        with self._changed:
            self._all -= 1
            self._taken[address] -= 1
            if not self._taken[address]:
                del self._taken[address]
            if self._waiting:
                self._changed.notify_all()

    def _has_room(self, address: str | None) -> bool:
        return self._all < self._most and self._taken.get(address, 0) < self._most_of_one


_places = _Places(max(2, settings.WEB_THREADS // 6))


def read_body(request: HttpRequest) -> bytes | None:
    """Return a request's body; None where too many threads wait for somebody's rest already.

    The server gives a body no deadline, so senders that never finish would have every thread of the process. Here they
    get a sixth of them, one address a quarter of that, and webhooks alone have to wait. Raises `UnreadablePostError`
    when the sender has gone.
    """
    if not request.META.get("CONTENT_LENGTH"):
        return b""
    address = counted_as(request_context.current().address)
    if not _places.take(address):
        return None
    try:
        return request.body
    finally:
        _places.leave(address)
