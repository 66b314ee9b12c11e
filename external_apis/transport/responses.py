"""An answer as http.client reads it, without its trust in what comes before and after."""

from __future__ import annotations

import http.client
import io
from typing import Any

from external_apis.errors import BadAnswer

__all__ = ["Response"]

_MOST_INTERIM = 20


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
    def has_buffered(self) -> bool:
        """Tell whether bytes of the answer are here already, read ahead of whoever wants them."""
        if self.fp is None:
            return False
        self._valve.is_shut = True
        try:
            return bool(self.fp.peek(1))
        finally:
            self._valve.is_shut = False

    def begin(self, *args: Any, **options: Any) -> None:
        """Read the head; raises `BadAnswer` for one that switches protocols or has lengths that contradict."""
        super().begin(*args, **options)
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

    def _close_conn(self) -> None:
        self._valve.is_shut = True
        self.has_leftover = self.has_leftover or bool(self.fp.peek(1))
        super()._close_conn()  # type: ignore[misc]


class _Valve(io.RawIOBase):
    """Lets bytes through until it is shut: what the buffer above it gives then is what it had read ahead."""

    is_shut = False

    def __init__(self, source: io.RawIOBase) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        return None if self.is_shut else self._source.readinto(buffer)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._source.close()
