"""Bodies of the server's answers: bounded, and with nothing but our own errors when they break."""

from __future__ import annotations

import http.client
import io
from collections.abc import Callable
from typing import Any

import requests
from urllib3 import HTTPResponse
from urllib3.exceptions import HTTPError, ReadTimeoutError

from external_apis.errors import ApiManagerError, BadAnswer, CallTimeout

__all__ = ["Body", "read_body"]

_PIECE_BYTES = 65_536


class Body(io.RawIOBase):
    """An answer's body, unpacked as it is read. Reading raises `CallTimeout` and `BadAnswer`.

    ``finish`` is called once, at the end or when this is closed before, with whether the connection may be used again.
    """

    def __init__(self, raw: HTTPResponse, name: str, most_bytes: int, finish: Callable[[bool], None]) -> None:
        self._raw, self._name, self._most_bytes, self._received = raw, name, most_bytes, 0
        self._finish: Callable[[bool], None] | None = finish

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        """Read at most ``size`` bytes, all of them for -1, and a piece for None, as requests' ``iter_content`` asks."""
        return super().read(_PIECE_BYTES if size is None else size) or b""

    def readinto(self, buffer: Any) -> int:
        if self.closed:
            raise ValueError("The answer has been closed.")
        view = memoryview(buffer).cast("B")
        if self._finish is None or not len(view):
            return 0
        error: ApiManagerError | None = None
        piece = b""
        try:
            piece = self._raw.read1(len(view), decode_content=True)
            self._received += len(piece)
            if self._received > self._most_bytes:
                error = BadAnswer(f"The answer is longer than {self._most_bytes:,} bytes.", may_have_happened=True)
        except (ReadTimeoutError, TimeoutError):
            error = CallTimeout(f"{self._name} did not send everything in time.", may_have_happened=True)
        except (HTTPError, OSError, http.client.HTTPException, ValueError) as failure:
            error = BadAnswer(f"{self._name} broke off ({type(failure).__name__}).", may_have_happened=True)
        except BaseException:
            self._end(is_reusable=False)
            raise
        if error is not None:
            self._end(is_reusable=False)
            raise error
        if not piece:
            self._end(is_reusable=True)
        view[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        if not self.closed:
            self._end(is_reusable=False)
            super().close()

    def _end(self, *, is_reusable: bool) -> None:
        finish, self._finish = self._finish, None
        if finish is not None:
            self._raw.close()
            finish(is_reusable)


def read_body(response: requests.Response) -> bytes:
    """Read a body into the response, and return it; raises as `Body` does."""
    body = b"".join(iter(lambda: response.raw.read(_PIECE_BYTES), b""))
    response.raw.close()
    # This is what requests itself does after reading one.
    response._content = body  # noqa: SLF001
    response._content_consumed = True  # type: ignore[attr-defined]  # noqa: SLF001
    return body
