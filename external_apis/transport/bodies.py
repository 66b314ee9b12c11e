"""Reading a body whole, within bounds."""

from __future__ import annotations

import http.client
import zlib

from external_apis.errors import BadAnswer

__all__ = ["MAX_BODY_BYTES", "read_bounded"]

MAX_BODY_BYTES = 10 * 1024 * 1024
"""Largest answer, counted as sent and again as unpacked, that is read into memory."""

_CHUNK_BYTES = 64 * 1024


def read_bounded(response: http.client.HTTPResponse, limit: int) -> bytes:
    """Read the whole body and unpack it; raises `BadAnswer` when it is too long, cut short or broken."""
    if response.length is not None and response.length > limit:
        raise _too_long(limit)
    if response.length is None and not response.chunked and response.headers.defects:
        raise http.client.IncompleteRead(b"")  # it broke off within a header line
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
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if body and encoding in ("gzip", "x-gzip", "deflate"):
        try:
            return _unpack(body, limit)
        except zlib.error:
            raise BadAnswer("The answer's compression is broken.", may_have_happened=True) from None
    return body


def _unpack(packed: bytes, limit: int) -> bytes:
    """Unpack gzip (of one or several members), zlib, or the bare deflate that some servers send (RFC 9110 8.4.1)."""
    unpacked = bytearray()
    while packed:
        unpacker = zlib.decompressobj(wbits=47 if packed[:2] == b"\x1f\x8b" or packed[0] & 0x0F == 8 else -15)
        unpacked += unpacker.decompress(packed, limit + 1 - len(unpacked))
        if len(unpacked) > limit:
            raise _too_long(limit)
        if not unpacker.eof:
            raise zlib.error("incomplete")
        packed = unpacker.unused_data.lstrip(b"\0")
    return bytes(unpacked)


def _too_long(limit: int) -> BadAnswer:
    return BadAnswer(f"The answer is longer than {limit} bytes.", may_have_happened=True)
