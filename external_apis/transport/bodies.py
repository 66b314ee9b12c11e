"""Reading a body within bounds: whole, or piece by piece."""

from __future__ import annotations

import http.client
import io
import select
import ssl
import zlib
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

from external_apis.errors import BadAnswer, CallTimeout
from external_apis.transport.breaks import explain
from external_apis.transport.responses import Response

__all__ = ["MAX_BODY_BYTES", "MAX_STREAM_BYTES", "StreamedBody", "read_bounded"]

MAX_BODY_BYTES = 10 * 1024 * 1024
"""Largest answer, counted as sent and again as unpacked, that is read into memory."""

MAX_STREAM_BYTES = 16 * 1024 * 1024 * 1024
"""Largest answer that is read piece by piece, counted in the same way, unless the caller says otherwise."""

_CHUNK_BYTES = 64 * 1024


def read_bounded(response: http.client.HTTPResponse, limit: int) -> bytes:
    """Read the whole body and unpack it; raises `BadAnswer` when it is too long, cut short or broken."""
    _check_announced(response, limit)
    if response.length is not None:
        body = response.read()  # raises IncompleteRead when the sender announced more than it sends
    else:
        chunks: list[bytes] = []
        total = 0
        while chunk := response.read(_CHUNK_BYTES):
            total += len(chunk)
            if total > limit:
                raise _too_long(limit)
            chunks.append(chunk)
        body = b"".join(chunks)
    if body and _is_packed(response):
        unpacker = _Unpacker()
        unpacked = unpacker.feed(body, limit + 1)
        if len(unpacked) > limit:
            raise _too_long(limit)
        unpacker.finish()
        return unpacked
    return body


class StreamedBody(io.RawIOBase):
    """A body that is read as it comes, unpacked, with at most a few chunks of it in memory.

    Reading raises `CallTimeout` and `BadAnswer` as `Transport.send` does. ``finish`` is called once, with whether the
    connection may carry another exchange: at the body's end, or when this is closed before.
    """

    def __init__(
        self,
        response: Response,
        name: str,
        limit: int,
        finish: Callable[[bool], None],
        sock: Any,
        *,
        is_raw: bool = False,
    ) -> None:
        _check_announced(response, limit)
        self._response, self._name, self._limit, self._sock = response, name, limit, sock
        self._finish: Callable[[bool], None] | None = finish
        self._hear: Callable[[int, BaseException | None], None] | None = None
        self._unpacker = _Unpacker() if _is_packed(response) and not is_raw else None
        self._packed = b""
        self._received = self._given = 0
        self._is_received = response.length == 0 or response.isclosed()
        if self._is_received:
            self._end(is_reusable=True)

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        """Read at most ``size`` bytes, all of them for -1, and a piece for None, as requests' ``iter_content`` asks."""
        return super().read(_CHUNK_BYTES if size is None else size) or b""

    def readinto(self, buffer: Any) -> int:
        if self.closed:
            raise ValueError("The answer has been closed.")
        view = memoryview(buffer).cast("B")
        piece = b""
        try:
            while not piece and len(view) and not self.is_over:
                piece = self._next(len(view))
            if not piece and len(view) and self._unpacker is not None:
                self._unpacker.finish()
        except BaseException as error:
            self._end(is_reusable=False)
            self._tell(error)
            raise
        if self.is_over and (self._unpacker is None or not piece):
            self._tell(None)
        view[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        if not self.closed:
            self._end(is_reusable=False)
            self._tell(None)
            super().close()

    def on_end(self, hear: Callable[[int, BaseException | None], None]) -> None:
        """Tell ``hear``, and nobody who was to hear before, how many bytes were received, and what reading raised.

        Once: when all was read, when reading fails, or when this is closed before.
        """
        self._hear = hear
        if self.closed or self.is_over:
            self._tell(None)

    def end_by(self, deadline: float) -> None:
        """Bring the deadline of reading forward, to a moment of `time.monotonic`."""
        # Once all was received, the socket may serve somebody else.
        if not self._is_received and (self._sock.deadline is None or deadline < self._sock.deadline):
            self._sock.deadline = deadline

    @property
    def announced_bytes(self) -> int | None:
        """How many more bytes are announced to come, None when that is not known."""
        return 0 if self._is_received else self._response.length

    def wait(self, seconds: float) -> bool:
        """Wait until something can be read; False when nothing came for so long. Nothing is lost or given up by that.

        Of a stream that is unpacked, only what the provider sends is waited for. Past the deadline nothing is.
        """
        until = monotonic() + seconds
        while not (self.is_over or self._packed or self._response.has_piece):
            now, last = monotonic(), self._sock.deadline
            if last is not None and now >= last:
                return True  # reading tells
            if not _is_readable(self._sock, min(until, last or until) - now):
                if monotonic() < until:
                    continue  # it is the deadline that has passed
                return False
            if not self._response.is_between_chunks or not self._response.read_ahead():
                return True
        return True

    def preview(self, size: int, deadline: float) -> bytes:
        """Return up to the first ``size`` bytes of a raw body, unpacked where that works; they are read again later.

        ``deadline``, on the clock of `time.monotonic`, is for them alone. Raises as reading does.
        """
        rest, self._sock.deadline = self._sock.deadline, deadline
        try:
            while len(self._packed) < size and not self._is_received:
                self._packed += self._receive(size - len(self._packed))
        except BaseException as error:
            self._end(is_reusable=False)
            self._tell(error)
            raise
        self._sock.deadline = rest
        if not _is_packed(self._response):
            return self._packed
        with suppress(BadAnswer):
            return _Unpacker().feed(self._packed, size)
        return b""

    @property
    def is_over(self) -> bool:
        """Tell whether everything has been read; until then nobody knows whether it all came."""
        return self._is_received and not self._packed and (self._unpacker is None or not self._unpacker.has_more)

    def _next(self, size: int) -> bytes:
        if self._unpacker is None:
            if not self._packed:
                return self._count(self._receive(size))
            piece, self._packed = self._packed[:size], self._packed[size:]
            return self._count(piece)
        if not self._packed and not self._unpacker.has_more:
            self._packed = self._receive(_CHUNK_BYTES)
        packed, self._packed = self._packed, b""
        return self._count(self._unpacker.feed(packed, size))

    def _receive(self, size: int) -> bytes:
        try:
            piece = self._response.read1(size)
            if not piece and self._response.length:
                raise http.client.IncompleteRead(b"")  # the sender announced more than it sent
        except TimeoutError:
            raise CallTimeout(f"{self._name} did not send everything in time.", may_have_happened=True) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise BadAnswer(f"{self._name} broke off: {explain(error)}.", may_have_happened=True) from None
        self._received += len(piece)
        if self._received > self._limit:
            raise _too_long(self._limit)
        if not piece or self._response.length == 0:
            self._is_received = True
            self._end(is_reusable=True)
        return piece

    def _count(self, piece: bytes) -> bytes:
        self._given += len(piece)
        if self._given > self._limit:
            raise _too_long(self._limit)
        return piece

    def _end(self, *, is_reusable: bool) -> None:
        finish, self._finish = self._finish, None
        if finish is not None:
            self._response.close()
            finish(is_reusable)

    def _tell(self, error: BaseException | None) -> None:
        hear, self._hear = self._hear, None
        if hear is not None:
            hear(self._received, error)


class _Unpacker:
    """Unpacks gzip (of one or several members), zlib, or the bare deflate that some servers send (RFC 9110 8.4.1)."""

    def __init__(self) -> None:
        self._member: zlib._Decompress | None = None
        self._waiting = b""
        self._is_first, self._is_full = True, False

    @property
    def has_more(self) -> bool:
        """Tell whether it may have something to give without being fed."""
        return bool(self._waiting) or self._is_full

    def feed(self, packed: bytes, size: int) -> bytes:
        """Take more and give at most ``size`` bytes; raises `BadAnswer` for what cannot be unpacked."""
        self._waiting += packed
        unpacked = bytearray()
        is_pending = self._is_full and self._member is not None
        try:
            while (self._waiting or is_pending) and len(unpacked) < size:
                is_pending = False
                if self._member is None and not self._begin():
                    break
                assert self._member is not None  # noqa: S101 (tells the type checker)
                unpacked += self._member.decompress(self._waiting, size - len(unpacked))
                self._waiting = self._member.unconsumed_tail
                if self._member.eof:
                    self._waiting, self._member = self._member.unused_data, None
        except zlib.error:
            raise _broken() from None
        self._is_full = len(unpacked) >= size
        return bytes(unpacked)

    def _begin(self) -> bool:
        """Begin the next member; False when nothing but the padding between two has come."""
        if not self._is_first:
            self._waiting = self._waiting.lstrip(b"\0")
        if not self._waiting:
            return False
        is_framed = self._waiting[0] == 0x1F or self._waiting[0] & 0x0F == 8
        self._member, self._is_first = zlib.decompressobj(wbits=47 if is_framed else -15), False
        return True

    def finish(self) -> None:
        """Raise `BadAnswer` when the last member is cut short."""
        if self._member is not None:
            raise _broken()


def _is_readable(sock: Any, seconds: float) -> bool:
    if isinstance(sock, ssl.SSLSocket) and sock.pending():
        return True
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(max(seconds, 0) * 1000))


def _is_packed(response: http.client.HTTPResponse) -> bool:
    return response.headers.get("Content-Encoding", "").strip().lower() in ("gzip", "x-gzip", "deflate")


def _check_announced(response: http.client.HTTPResponse, limit: int) -> None:
    if response.length is not None and response.length > limit:
        raise _too_long(limit)
    if response.length is None and not response.chunked and response.headers.defects:
        raise http.client.IncompleteRead(b"")  # it broke off within a header line


def _broken() -> BadAnswer:
    return BadAnswer("The answer's compression is broken.", may_have_happened=True)


def _too_long(limit: int) -> BadAnswer:
    return BadAnswer(f"The answer is longer than {limit} bytes.", may_have_happened=True)
