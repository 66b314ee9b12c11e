"""What stands inside the encryption: frames of ``kind | length | payload``, first a manifest, last an end."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from typing import Any

from external_apis.backup.container import Writer
from external_apis.errors import InvalidInput

__all__ = ["DATA", "END", "MANIFEST", "TABLE", "read", "write", "write_json"]

MANIFEST, TABLE, DATA, END = b"M", b"T", b"D", b"E"
_HEAD_BYTES = 5
_MAX_PAYLOAD_BYTES = 2**30


def write(writer: Writer, kind: bytes, payload: bytes | memoryview) -> None:
    """Write one frame."""
    writer.write(kind + struct.pack(">I", len(payload)))
    writer.write(payload)


def write_json(writer: Writer, kind: bytes, payload: Any) -> None:
    """Write one frame of JSON."""
    write(writer, kind, json.dumps(payload, separators=(",", ":")).encode())


def read(chunks: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield ``(kind, payload)``. Raises `InvalidInput` for frames that do not begin with M and end with E."""
    waiting = bytearray()
    previous = b""
    for chunk in chunks:
        waiting += chunk
        at = 0
        while len(waiting) >= at + _HEAD_BYTES:
            kind = bytes(waiting[at : at + 1])
            (length,) = struct.unpack_from(">I", waiting, at + 1)
            if length > _MAX_PAYLOAD_BYTES or (kind == MANIFEST) != (previous == b"") or previous == END:
                raise InvalidInput("The backup does not hold what it should.")
            if len(waiting) < at + _HEAD_BYTES + length:
                break
            at += _HEAD_BYTES
            yield kind, bytes(waiting[at : at + length])
            at, previous = at + length, kind
        del waiting[:at]
    if waiting or previous != END:
        raise InvalidInput("The backup does not hold what it should.")
