"""Answers that are broken, endless, oversized or untrue, on request."""

from __future__ import annotations

import itertools
import struct
import time
import zlib
from collections.abc import Iterator

from connections.sandbox.answers import Answer, Raw, Refusal, Reply, Stream, render_head
from connections.sandbox.request import Request
from connections.sandbox.routing import ANY, Route
from connections.sandbox.state import State
from connections.sandbox.wire import Wire

BIG_BYTES = 10 * 1024**3
ENDLESS_SECONDS = 600.0
BLOCK_BYTES = 1024 * 1024
PIECE = b"all work and no play " * 780


def answer_endlessly(_request: Request, _state: State) -> Reply:
    """Chunks until the client leaves."""
    return Stream(_repeat(PIECE))


def _repeat(piece: bytes) -> Iterator[bytes]:
    deadline = time.monotonic() + ENDLESS_SECONDS
    while time.monotonic() < deadline:
        yield piece


def answer_big(request: Request, _state: State) -> Reply:
    """A body of exactly ``bytes``, announced truly."""
    size = request.whole("bytes", 1_000_000, BIG_BYTES)
    return Stream(_cut(size), length=size)


def _cut(size: int) -> Iterator[bytes]:
    whole, rest = divmod(size, len(PIECE))
    yield from itertools.repeat(PIECE, whole)
    if rest:
        yield PIECE[:rest]


def bomb_gzip(request: Request, _state: State) -> Reply:
    """``bytes`` (1 GiB) of zeros, about a thousandth of that on the wire."""
    size = request.whole("bytes", 1024**3, BIG_BYTES, 1)
    return Stream(_zip_zeros(size), headers={"Content-Encoding": "gzip"}, content_type="application/json")


def _zip_zeros(size: int) -> Iterator[bytes]:
    # After a full flush nothing refers back, so one compressed block can be sent again and again.
    blocks, rest = divmod(size, BLOCK_BYTES)
    zeros = bytes(BLOCK_BYTES)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    yield b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"
    checksum = 0
    for _ in range(blocks):
        checksum = zlib.crc32(zeros, checksum)
        yield block
    last = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    checksum = zlib.crc32(zeros[:rest], checksum)
    yield last.compress(zeros[:rest]) + last.flush() + struct.pack("<II", checksum, size & 0xFFFFFFFF)


def close_early(request: Request, _state: State) -> Reply:
    """Close ``when=before`` a byte is sent, within the ``head``, the ``body`` or a ``chunk``; ``how=reset`` for RST."""
    kept = [("Content-Type", "application/json")]
    beginnings = {
        "before": b"",
        "head": b"HTTP/1.1 200 OK\r\nContent-Ty",
        "body": render_head(200, [*kept, ("Content-Length", "1000")]) + b'{"cut":',
        "chunk": render_head(200, [*kept, ("Transfer-Encoding", "chunked")]) + b'7\r\n{"cut":\r\n3e8\r\n"',
    }
    when = request.parameters.get("when", "before")
    if when not in beginnings:
        raise Refusal(400, "bad_parameter", f"when must be one of {', '.join(beginnings)}")
    is_reset = request.parameters.get("how") == "reset"

    def play(wire: Wire) -> None:
        wire.send(beginnings[when])
        if is_reset:
            wire.reset()
        else:
            wire.close()

    return Raw(play)


def lie_about_length(request: Request, _state: State) -> Reply:
    """Announce ``content_length`` (any text), send ``bytes`` (10)."""
    claimed = request.parameters.get("content_length", "1000")
    if not claimed.isascii() or not claimed.isprintable():
        raise Refusal(400, "bad_parameter", "content_length must be printable ASCII")
    body = b"x" * request.whole("bytes", 10, BLOCK_BYTES)
    head = render_head(200, [("Content-Type", "text/plain"), ("Content-Length", claimed), ("Connection", "close")])
    return Raw(lambda wire: wire.send(head + body))


def break_json(_request: Request, _state: State) -> Reply:
    return Answer(body=b'{"ok": true, "items": [1, 2,')


def break_charset(request: Request, _state: State) -> Reply:
    """Bytes that are not what ``charset`` (utf-8) says, or a charset nobody knows."""
    charset = request.parameters.get("charset", "utf-8")
    if not charset.isascii() or not charset.isprintable():
        raise Refusal(400, "bad_parameter", "charset must be printable ASCII")
    return Answer(body=b'{"name": "caf\xe9 \xff\xfe"}', content_type=f"application/json; charset={charset}")


def crowd_headers(request: Request, _state: State) -> Reply:
    """``count`` (1) headers of ``bytes`` (100) each."""
    count, size = request.whole("count", 1, 10_000), request.whole("bytes", 100, BLOCK_BYTES)
    if count * size > 16 * BLOCK_BYTES:
        raise Refusal(400, "bad_parameter", "count times bytes must be at most 16 MiB")
    return Answer(body=b"{}", headers={f"X-Crowd-{number}": "h" * size for number in range(count)})


def break_head(_request: Request, _state: State) -> Reply:
    return Raw(lambda wire: wire.send(b"EHLO this is no HTTP\r\n\r\n\x00\xff"))


ROUTES = (
    Route("/endless", answer_endlessly, ANY, "a body without end"),
    Route("/big", answer_big, ANY, "bytes"),
    Route("/gzip-bomb", bomb_gzip, ANY, "bytes when unpacked"),
    Route("/close", close_early, ANY, "when=before, head, body or chunk; how=reset"),
    Route("/lie", lie_about_length, ANY, "content_length, bytes"),
    Route("/broken-json", break_json, ANY, "JSON cut off"),
    Route("/bad-charset", break_charset, ANY, "charset"),
    Route("/headers", crowd_headers, ANY, "count, bytes"),
    Route("/not-http", break_head, ANY, "an answer that is no HTTP"),
)
