"""Reads what a view left of a request's body: for the next request of the connection, and for the answer to this one.

A request that is refused early (401, 405, 413, 415) leaves its body unread. The server then closes the connection
without announcing it: a client that keeps connections loses its next request now and then, and one that sends a long
body before it reads sees a broken connection instead of the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

from django.conf import settings
from django.http import HttpRequest, HttpResponse, UnreadablePostError

from external_apis import request_context
from external_apis.body_places import Places

_SHORT_BYTES = 64 * 1024
"""What the sockets' buffers hold anyway."""
_LONG_BYTES = 32 * 1024 * 1024
_MAX_READERS = 8
_WAIT_SECONDS = 0.1
"""A place that is about to be free is worth waiting for: the next request comes as soon as a body has been read."""


class UnreadBodyMiddleware:
    """A body that nobody began to read is read and thrown away behind the answer; a long one only if it was refused.

    Of one beyond 32 MiB nothing is read, nor while senders who never finish keep eight threads waiting, or a twelfth of
    all, and those of one address two: they find the connection closed.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self.places = Places(max(1, min(_MAX_READERS, settings.WEB_THREADS // 12)), _WAIT_SECONDS)

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        announced = request.META.get("CONTENT_LENGTH") or ""
        length = int(announced) if announced.isascii() and announced.isdigit() else 0
        is_wanted = 0 < length <= _SHORT_BYTES or (0 < length <= _LONG_BYTES and response.status_code >= 400)
        if is_wanted and not _is_read(request, length):
            if not response.streaming:
                # Without a length the client would wait for the end of the answer while we wait for that of its body.
                response.setdefault("Content-Length", str(len(response.content)))
            address = request_context.current().address
            response.close = partial(self._close, response.close, request, address)  # type: ignore[method-assign]
        return response

    def _close(self, close: Callable[[], None], request: HttpRequest, address: str | None) -> None:
        close()
        # The answer is on its way by now. It has to be this thread, although WSGI's read knows no time limit: granian
        # stands still as a whole when a read is left to another thread and the call returns.
        if self.places.take(address):
            try:
                _discard(request)
            finally:
                self.places.leave(address)


def _discard(request: HttpRequest) -> None:
    with suppress(UnreadablePostError):  # the client has gone
        while request.read(_SHORT_BYTES):
            pass


def _is_read(request: HttpRequest, length: int) -> bool:
    """Tell whether the view has read it: whoever begins with a short one ends with it."""
    return length <= _SHORT_BYTES and bool(getattr(request, "_read_started", False))
