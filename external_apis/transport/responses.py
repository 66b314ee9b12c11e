"""An answer as http.client reads it, without its trust in what comes before and after."""

from __future__ import annotations

import http.client
import io
import re
from typing import Any

from external_apis.errors import BadAnswer

__all__ = ["Response"]

_MOST_INTERIM = 20
_AHEAD_BYTES = 8192
_LONGEST_LINE = 65_536  # as http.client has it
_CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,16}(?=[ \t]*(;|\r?\n|\r?$))")


class Response(http.client.HTTPResponse):
    """Skips interim answers (RFC 9110 15.2) and refuses one whose end is not certain (RFC 9112 6.3).

    ``has_leftover`` tells, once the answer is closed, whether more came than it holds. Whoever reads the connection
    next would take that for an answer of its own.
    """

    has_leftover = False

    def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self._valve = _Valve(self.fp.detach())
        self.fp = io.BufferedReader(self._valve)

    @property
    def has_piece(self) -> bool:
        """Tell whether reading a piece of the body would not wait for the other side."""
        if self.fp is None:
            return False
        here = self._peek()
        if not self.chunked or self.chunk_left:
            return bool(here)
        return _holds_piece(here[2:] if self.chunk_left == 0 else here)

    @property
    def is_between_chunks(self) -> bool:
        """Tell whether the next bytes only frame the body: that some have come does not tell that reading ends."""
        return self.fp is not None and self.chunked and not self.chunk_left

    def read_ahead(self) -> bool:
        """Take what has come, for later; False at the end of what comes."""
        return self._valve.read_ahead()

    def _peek(self) -> bytes:
        self._valve.is_shut = True
        try:
            return self.fp.peek(1) + self._valve.ahead
        finally:
            self._valve.is_shut = False

    def begin(self, *args: Any, **options: Any) -> None:
        """Read the head; raises `BadAnswer` for one that switches protocols or whose framing is not certain."""
        super().begin(*args, **options)
        codings = [field.strip().lower() for field in self.headers.get_all("Transfer-Encoding", ())]
        if codings not in ([], ["chunked"]):
            raise BadAnswer("The answer is framed in a way that nobody asked for.", may_have_happened=True)
        lengths = {part.strip() for field in self.headers.get_all("Content-Length", ()) for part in field.split(",")}
        if len(lengths) > 1 or not all(length.isascii() and length.isdigit() for length in lengths):
            raise BadAnswer("The answer's length contradicts itself.", may_have_happened=True)
        if self.chunked and lengths:
            self.will_close = True

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(_MOST_INTERIM):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if status == http.client.SWITCHING_PROTOCOLS:
                raise BadAnswer("The answer switches to a protocol that nobody asked for.", may_have_happened=True)
            if not 100 <= status < 200:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise BadAnswer(f"More than {_MOST_INTERIM} interim answers came.", may_have_happened=True)

    def _read_next_chunk_size(self) -> int:
        line = self.fp.readline(_LONGEST_LINE + 1)
        if not (size := _CHUNK_SIZE.match(line)):
            self._close_conn()
            raise ValueError("no size of a chunk (RFC 9112 7.1)")
        return int(size[0], 16)

    def _close_conn(self) -> None:
        self._valve.is_shut = True
        self.has_leftover = self.has_leftover or bool(self.fp.peek(1) or self._valve.ahead)
        super()._close_conn()  # type: ignore[misc]


class _Valve(io.RawIOBase):
    """Lets bytes through until it is shut: what the buffer above it gives then is what it had read ahead.

    ``ahead`` is what has been taken from the source and goes through next.
    """

    is_shut = False
    ahead = b""

    def __init__(self, source: io.RawIOBase) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.is_shut:
            return None
        if not self.ahead:
            return self._source.readinto(buffer)
        count = min(len(buffer), len(self.ahead))
        buffer[:count], self.ahead = self.ahead[:count], self.ahead[count:]
        return count

    def read_ahead(self) -> bool:
        piece = self._source.read(_AHEAD_BYTES) or b""
        self.ahead += piece
        return bool(piece)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._source.close()


def _holds_piece(text: bytes) -> bool:
    """Tell whether what comes next in a chunked body (RFC 9112 7.1) is here, as far as one reading needs it."""
    line, newline, rest = text.partition(b"\n")
    if not newline:
        return len(text) > _LONGEST_LINE  # which reading refuses
    size = _CHUNK_SIZE.match(line)
    if size is None or int(size[0], 16):
        return bool(rest) or size is None
    if len(text) > _LONGEST_LINE:
        return True  # reading throws trailers away, line by line
    return rest.startswith((b"\r\n", b"\n")) or b"\r\n\r\n" in rest or b"\n\n" in rest
