"""Reads the body of a webhook, of which anybody may announce one and never send it."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest

from external_apis import request_context
from external_apis.body_places import Places

__all__ = ["read_body"]

_WAIT_SECONDS = 0.25


_places = Places(max(2, settings.WEB_THREADS // 6), _WAIT_SECONDS)


def read_body(request: HttpRequest) -> bytes | None:
    """Return a request's body; None where too many threads wait for somebody's rest already.

    The server gives a body no deadline, so senders that never finish would have every thread of the process. Here they
    get a sixth of them, one address a quarter of that, and webhooks alone have to wait. Raises `UnreadablePostError`
    when the sender has gone.
    """
    if not request.META.get("CONTENT_LENGTH"):
        return b""
    address = request_context.current().address
    if not _places.take(address):
        return None
    try:
        return request.body
    finally:
        _places.leave(address)
