"""Bodies that are sent piece by piece: from a file, or from an iterator of bytes."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any

from external_apis.errors import InvalidInput

__all__ = ["SourceFailed", "Upload"]

_PIECE_BYTES = 64 * 1024


class SourceFailed(Exception):
    """The caller's own file or iterator raised ``error`` while it was read."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


class Upload:
    """A body of ``length`` bytes, or of one that shows (None: it goes out in chunks).

    A file is sent from where it stands, and can be sent again if it can seek; an iterator can be read once. Whoever
    knows the length of what cannot seek says so. ``sent_bytes`` counts what was given out, over all readings.
    """

    def __init__(self, source: Any, length: int | None = None) -> None:
        self._source = source
        self._is_file = hasattr(source, "read")
        self._start: int | None = None
        self.length = length
        self.is_touched = False
        self.sent_bytes = 0
        if self._is_file and _can_seek(source):
            self._start = source.tell()
            self.length = source.seek(0, io.SEEK_END) - self._start
            source.seek(self._start)

    @staticmethod
    def fits(data: Any) -> bool:
        """Tell whether data is sent piece by piece: something that reads, or an iterator."""
        return hasattr(data, "read") or isinstance(data, Iterator)

    def rewind(self) -> bool:
        """Go back to the beginning; False when what is gone cannot be read again."""
        if not self.is_touched:
            return True
        if self._start is None:
            return False
        self._source.seek(self._start)
        self.is_touched = False
        return True

    def pieces(self) -> Iterator[bytes]:
        """Read on; raises `SourceFailed`, with `InvalidInput` in it for what is not bytes or not ``length`` long."""
        self.is_touched = True
        sent = 0
        try:
            for piece in self._read():
                if not isinstance(piece, (bytes, bytearray, memoryview)):
                    raise _refuse(f"gave {type(piece).__name__}, not bytes")  # noqa: TRY301
                sent += len(piece)
                if self.length is not None and sent > self.length:
                    raise _refuse("grew while it was sent")  # noqa: TRY301
                if piece:
                    self.sent_bytes += len(piece)
                    yield bytes(piece)
            if self.length is not None and sent < self.length:
                raise _refuse("shrank while it was sent")  # noqa: TRY301
        except GeneratorExit:
            raise
        except BaseException as error:
            raise SourceFailed(error) from None

    def _read(self) -> Iterable[Any]:
        return iter(lambda: self._source.read(_PIECE_BYTES), b"") if self._is_file else self._source


def _can_seek(source: Any) -> bool:
    try:
        return bool(source.seekable())
    except (AttributeError, ValueError):
        return False


def _refuse(message: str) -> InvalidInput:
    details = {"errors": [{"path": "data", "message": message}]}
    return InvalidInput(f"Invalid call: data {message}.", details=details)
