"""Bodies on their way through the gateway, with a piece of them in memory at a time."""

from __future__ import annotations

from contextvars import copy_context
from itertools import chain
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Protocol

import structlog
from django.conf import settings
from django.http import UnreadablePostError

from external_apis.errors import CallError, InvalidInput, PayloadTooLarge
from external_apis.transport import StreamedBody, Upload

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from django.http import HttpRequest

__all__ = ["Audience", "Relay", "read_body"]

log = structlog.get_logger(__name__)

_PIECE_BYTES = 64 * 1024
_SHORT_BYTES = 256 * 1024
"""A body up to here is read before the call, which may then be tried again."""
_LISTEN_SECONDS = 1.0
_MOURNING_SECONDS = 60.0


def read_body(request: HttpRequest, *, must_be_whole: bool) -> bytes | Upload | None:
    """Return the request's body, whole where it is short, or to be read as it is sent.

    One in chunks is read from the server itself, because Django knows no body without a length. Raises
    `PayloadTooLarge` for one that has to be in memory and is longer than ``MAX_BODY_BYTES``, and `InvalidInput` for one
    that ends early.
    """
    length = _announced(request.META)
    if length == 0:
        return None
    limit = settings.MAX_BODY_BYTES if must_be_whole else _SHORT_BYTES
    if length is not None:
        if length <= limit:
            return _read_whole(request, length)
        if must_be_whole:
            raise _too_long()
        return Upload(request, length)
    source = request.META["wsgi.input"]
    beginning = source.read(limit + 1)
    if len(beginning) <= limit:
        return bytes(beginning)
    if must_be_whole:
        raise _too_long()
    return Upload(chain([beginning], _pieces(source)))


class Audience(Protocol):
    """Who hears what becomes of an answer's body: each piece, empty ones for silent seconds, and once its end."""

    def hear(self, piece: bytes) -> None: ...

    def end(self, *, is_whole: bool) -> None: ...


class Relay:
    """The answer's body as WSGI takes it: pieces as they come, and an empty one each second in which none comes.

    The server tries to send the empty one, which shows it whether the client is still there. It closes this in any
    case, and that ends the call upstream.

    The server ends an answer without a length properly whatever happens here. So unless the body has an end of its own
    that a reader would miss, what was cut short is not ended for a minute: a reader's time-out is better than half a
    body that looks whole. Such a wait is part of the call, and of the number that may be under way.
    """

    def __init__(
        self, body: StreamedBody, audience: Audience, *, beginning: bytes = b"", has_own_end: bool = True
    ) -> None:
        self._body, self._audience, self._beginning = body, audience, beginning
        self._has_own_end, self._has_ended, self._cut_at = has_own_end, False, 0.0
        # The server asks for pieces when the request's own context is gone: its id belongs to what is logged here.
        self._context = copy_context()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return self._context.run(self._next)

    def close(self) -> None:
        self._context.run(self._close)

    def _next(self) -> bytes:
        if self._beginning:
            piece, self._beginning = self._beginning, b""
            return piece
        if self._cut_at:
            return self._mourn()
        piece = b""
        if self._body.wait(_LISTEN_SECONDS):
            try:
                piece = self._body.read(_PIECE_BYTES)
            except CallError as error:
                return self._cut(error)
            if not piece:
                self._end(is_whole=True)
                raise StopIteration
        self._audience.hear(piece)
        return piece

    def _cut(self, error: CallError) -> bytes:
        log.warning("a provider's answer was cut short", code=error.code)
        if self._has_own_end:
            self._end(is_whole=False)
            raise StopIteration
        self._cut_at = monotonic()
        return b""

    def _mourn(self) -> bytes:
        if monotonic() - self._cut_at > _MOURNING_SECONDS:
            self._end(is_whole=False)
            raise StopIteration
        sleep(_LISTEN_SECONDS)
        return b""

    def _close(self) -> None:
        self._body.close()
        self._end(is_whole=False)

    def _end(self, *, is_whole: bool) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._audience.end(is_whole=is_whole)


def _announced(environ: Mapping[str, Any]) -> int | None:
    """Return the length of the body, None for one in chunks: then the server ends it."""
    length = environ.get("CONTENT_LENGTH") or ""
    if length:
        if not (length.isascii() and length.isdigit()):
            raise InvalidInput("Content-Length is not a number.")
        return int(length)
    return None if "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower() else 0


def _read_whole(request: HttpRequest, length: int) -> bytes:
    try:
        body: bytes = request.read(length)
    except UnreadablePostError:
        body = b""
    if len(body) < length:
        raise InvalidInput("The body ended before its announced length.")
    return body


def _pieces(source: Any) -> Iterator[bytes]:
    return iter(lambda: source.read(_PIECE_BYTES), b"")


def _too_long() -> PayloadTooLarge:
    return PayloadTooLarge(
        f"A body that is signed, or comes with an Idempotency-Key, has at most {settings.MAX_BODY_BYTES} bytes."
    )
