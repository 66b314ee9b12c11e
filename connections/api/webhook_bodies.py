"""Reads the body of a webhook, of which anybody may announce one and never send it."""

from __future__ import annotations

import threading

from django.conf import settings
from django.http import HttpRequest

__all__ = ["read_body"]

_WAIT_SECONDS = 0.25
_readers = threading.BoundedSemaphore(max(2, settings.WEB_THREADS // 6))


def read_body(request: HttpRequest) -> bytes | None:
    """Return a request's body; None where too many threads wait for somebody's rest already.

    The server gives a body no deadline, so senders that never finish would have every thread of the process. Here they
    get a sixth of them, and webhooks alone have to wait. Raises `UnreadablePostError` when the sender has gone.
    """
    if not request.META.get("CONTENT_LENGTH"):
        return b""
    if not _readers.acquire(timeout=_WAIT_SECONDS):
        return None
    try:
        return request.body
    finally:
        _readers.release()
