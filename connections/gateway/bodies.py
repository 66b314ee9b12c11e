"""Bodies on their way through the gateway, with a piece of them in memory at a time."""

from __future__ import annotations

from itertools import chain
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import structlog
from django.conf import settings
from django.http import UnreadablePostError

from external_apis.errors import CallError, InvalidInput, PayloadTooLarge
from external_apis.transport import StreamedBody, Upload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from django.http import HttpRequest

__all__ = ["Relay", "read_body"]

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


class Relay:
    """The answer's body as WSGI takes it: pieces as they come, and an empty one each second in which none comes.

    The server tries to send the empty one, which shows it whether the client is still there. It closes this in any
    case, and that ends the call upstream. ``on_end`` is told whether the whole body came, once.

    The server ends an answer without a length properly even where this raises. So unless the body has an end of its own
    that a reader would miss, what was cut short is not ended for a minute: a reader's time-out is better than half a
    body that looks whole.
    """

    def __init__(
        self,
        body: StreamedBody,
        on_end: Callable[[bool], None],
        *,
        beginning: bytes = b"",
        on_piece: Callable[[bytes], None] | None = None,
        has_own_end: bool = True,
    ) -> None:
        self._body, self._on_end, self._on_piece = body, on_end, on_piece
        self._beginning, self._has_ended = beginning, False
        self._has_own_end, self._cut_at = has_own_end, 0.0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._beginning:
            piece, self._beginning = self._beginning, b""
            return piece
        if self._cut_at:
            return self._mourn()
        if not self._body.wait(_LISTEN_SECONDS):
            return b""
        try:
            piece = self._body.read(_PIECE_BYTES)
        except CallError as error:
            log.warning("a provider's answer was cut short", code=error.code)
            self._end(is_whole=False)
            if self._has_own_end:
                raise
            self._cut_at = monotonic()
            return b""
        if not piece:
            self._end(is_whole=True)
            raise StopIteration
        if self._on_piece is not None:
            self._on_piece(piece)
        return piece

    def close(self) -> None:
        self._body.close()
        self._end(is_whole=False)

    def _mourn(self) -> bytes:
        if monotonic() - self._cut_at > _MOURNING_SECONDS:
            raise StopIteration
        sleep(_LISTEN_SECONDS)
        return b""

    def _end(self, *, is_whole: bool) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._on_end(is_whole)


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
