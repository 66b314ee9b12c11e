"""Reads away what is left of a refused request's body, so that its sender gets to see the answer."""

from __future__ import annotations

import threading
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.http.request import UnreadablePostError

_PIECE_BYTES = 65_536
_MOST_BYTES = 32 * 1024 * 1024
_PATIENCE_SECONDS = 3
_MOST_READERS = 8


class UnreadBodyMiddleware:
    """Many clients send their whole body before they read; a connection closed meanwhile looks to them like a crash.

    What fits into the sockets' buffers needs no help. More is read in small pieces that are thrown away, for 3 s at
    most; of a body over 32 MiB nothing is read, and its sender finds the connection closed. So does everybody while
    eight senders who never finish are being waited for.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self.readers = threading.BoundedSemaphore(_MOST_READERS)

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        announced = request.META.get("CONTENT_LENGTH") or ""
        is_long = announced.isdecimal() and _PIECE_BYTES < int(announced) <= _MOST_BYTES
        if response.status_code >= 400 and is_long and self.readers.acquire(blocking=False):
            # WSGI's read cannot be given a time limit. The thread ends with the connection at the latest.
            reader = threading.Thread(target=self._discard, args=(request,), daemon=True)
            reader.start()
            reader.join(_PATIENCE_SECONDS)
        return response

    def _discard(self, request: HttpRequest) -> None:
        try:
            while request.read(_PIECE_BYTES):
                pass
        except UnreadablePostError:
            pass  # the client is gone
        finally:
            self.readers.release()
