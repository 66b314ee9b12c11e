"""Reads what a view left of a request's body, so that the connection can carry the next request.

A request that is refused early (401, 405, 415) leaves its body unread. The server then closes the connection without
announcing it, and a client that keeps connections loses its next request now and then.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from django.http import HttpRequest, HttpResponse, UnreadablePostError

_MAX_BYTES = 64 * 1024
"""More is not worth receiving for nothing: there the connection is closed."""


class UnreadBodyMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        length = request.META.get("CONTENT_LENGTH") or ""
        if length.isdecimal() and 0 < int(length) <= _MAX_BYTES:
            with suppress(UnreadablePostError):  # the client has gone
                request.read()
        return response
