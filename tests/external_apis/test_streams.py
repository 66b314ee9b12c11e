"""Bodies that go up and come down piece by piece: bounded memory, deadlines, and every way to break off."""

from __future__ import annotations

import gzip
import io
import itertools
import random
import socket
import threading
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from external_apis.egress import Allowance, Policy
from external_apis.errors import BadAnswer, CallTimeout, InvalidInput
from external_apis.transport import Answer, Origin, Transport, Upload
from tests.sockets import OK, Play, answering, read_head, serve, trickle

LOOPBACK = Policy((Allowance.parse("127.0.0.1"),))
MEGABYTE = 1024 * 1024


def fetch(
    port: int, transport: Transport | None = None, *, seconds: float = 5.0, limit: int = 10**9, body: Any = None,
    is_raw: bool = False,
) -> Answer:  # fmt: skip
    now = time.monotonic()
    return (transport or Transport(LOOPBACK)).send(
        Origin("http", "127.0.0.1", port), "GET" if body is None else "POST", "/", {}, body,
        deadline=now + 5, stream_deadline=now + seconds, max_body_bytes=limit, is_raw=is_raw,
    )  # fmt: skip


def pieces(answer: Answer, size: int = 65_536) -> Iterator[bytes]:
    stream = answer.stream
    assert stream is not None
    while piece := stream.read(size):
        yield piece


def whole(answer: Answer, size: int = 65_536) -> bytes:
    return b"".join(pieces(answer, size))


def head(**headers: Any) -> bytes:
    fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 200 OK\r\n{fields}\r\n".encode()


def flood(megabytes: int, *, is_chunked: bool = False) -> Play:
    def play(client: socket.socket) -> None:
        read_head(client)
        client.sendall(head(Transfer_Encoding="chunked") if is_chunked else head(Content_Length=megabytes * MEGABYTE))
        block = b"x" * MEGABYTE
        for _ in range(megabytes):
            client.sendall(b"100000\r\n" + block + b"\r\n" if is_chunked else block)
        if is_chunked:
            client.sendall(b"0\r\n\r\n")
        read_head(client)
        client.sendall(OK)

    return play


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_hundred_megabytes_come_down_in_a_few_chunks_of_memory(is_chunked: bool) -> None:
    with serve(flood(100, is_chunked=is_chunked)) as port:
        transport = Transport(LOOPBACK)
        answer = fetch(port, transport, seconds=30)
        tracemalloc.start()
        assert sum(map(len, pieces(answer))) == 100 * MEGABYTE
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        # The server's own block is in the figure.
        assert peak < 6 * MEGABYTE
        assert whole(fetch(port, transport)) == b"ok"  # over the same connection


def test_a_stream_is_read_in_any_size() -> None:
    for size in (1, 2, 7, 1000):
        with serve(answering(head(Content_Length=10) + b"0123456789")) as port:
            assert whole(fetch(port), size) == b"0123456789"


def test_a_gzip_bomb_is_unpacked_a_piece_at_a_time_and_ends_at_the_limit() -> None:
    bomb = gzip.compress(b"\0" * 50 * MEGABYTE)
    with serve(answering(head(Content_Encoding="gzip", Content_Length=len(bomb)) + bomb)) as port:
        answer = fetch(port, limit=20 * MEGABYTE)
        tracemalloc.start()
        seen: list[int] = []
        with pytest.raises(BadAnswer, match="longer than"):
            seen.extend(map(len, pieces(answer)))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert 19 * MEGABYTE < sum(seen) <= 20 * MEGABYTE
    assert peak < 2 * MEGABYTE


NOISE = random.Random(1).randbytes(300_000)
PACKED_NOISE = gzip.compress(NOISE, mtime=0)  # without it the test's name would tell the second it was collected


@pytest.mark.parametrize("size", [1_000, 65_536, 10**6])
@pytest.mark.parametrize(
    ("packed", "plain"),
    [
        (PACKED_NOISE, NOISE),
        (gzip.compress(b"a" * 300_000), b"a" * 300_000),
        (gzip.compress(NOISE[:999]) + b"\0\0" + gzip.compress(NOISE[999:]) + b"\0" * 50, NOISE),
        (zlib.compress(NOISE), NOISE),
        (zlib.compress(NOISE)[2:-4], NOISE),
        (b"", b""),
        (gzip.compress(b""), b""),
    ],
    ids=["noise", "zeros", "members", "zlib", "raw", "nothing", "empty"],
)
def test_a_packed_stream_is_unpacked(packed: bytes, plain: bytes, size: int) -> None:
    encoding = "gzip" if packed[:2] == b"\x1f\x8b" else "deflate"
    with serve(answering(head(Content_Encoding=encoding, Content_Length=len(packed)) + packed)) as port:
        assert whole(fetch(port), size) == plain


@pytest.mark.parametrize("packed", [PACKED_NOISE[:-9], PACKED_NOISE[:5], b"not gzip", b"\x1f\x8b"])
def test_broken_packing_is_an_error_and_not_an_end(packed: bytes) -> None:
    with serve(answering(head(Content_Encoding="gzip", Content_Length=len(packed)) + packed)) as port:
        answer = fetch(port)
        with pytest.raises(BadAnswer, match="compression is broken"):
            whole(answer)


def test_padding_without_end_between_members_ends_at_the_limit() -> None:
    """It unpacks to nothing, so only what is received can tell that it goes on and on."""

    def play(client: socket.socket) -> None:
        read_head(client)
        client.sendall(head(Content_Encoding="gzip", Transfer_Encoding="chunked"))
        member, padding = gzip.compress(b"abc"), bytes(65_536)
        client.sendall(b"%x\r\n%b\r\n" % (len(member), member))
        for _ in range(64):  # which has an end after all, so that a test that fails does not hang
            client.sendall(b"10000\r\n" + padding + b"\r\n")
        client.sendall(b"0\r\n\r\n")

    with serve(play) as port:
        answer = fetch(port, limit=10**6)
        with pytest.raises(BadAnswer, match="longer"):
            whole(answer)


@pytest.mark.parametrize(
    "answer",
    [
        head(Content_Length=10) + b"abc",
        head(Transfer_Encoding="chunked") + b"5\r\nab",
        head(Transfer_Encoding="chunked") + b"5\r\nabcde\r\n",
        head(Transfer_Encoding="chunked") + b"zz\r\n",
    ],
)
def test_a_stream_that_breaks_off_is_an_error_and_not_an_end(answer: bytes) -> None:
    with serve(answering(answer)) as port:
        stream = fetch(port)
        with pytest.raises(BadAnswer, match="broke off"):
            whole(stream)


def test_a_trickle_ends_at_the_streams_deadline() -> None:
    with serve(trickle(head(Content_Length=99_999), b"x")) as port:
        started = time.monotonic()
        answer = fetch(port, seconds=0.3)
        with pytest.raises(CallTimeout) as caught:
            whole(answer)
        assert time.monotonic() - started < 1.5
    assert caught.value.may_have_happened


def test_bytes_are_given_as_they_come() -> None:
    with serve(trickle(head(Content_Length=99_999), b"x")) as port:
        started = time.monotonic()
        answer = fetch(port)
        assert next(pieces(answer))
        assert time.monotonic() - started < 1
        assert answer.stream is not None
        answer.stream.close()


def test_a_stream_that_is_closed_early_gives_no_connection_back() -> None:
    with serve(flood(5)) as port:
        transport = Transport(LOOPBACK)
        answer = fetch(port, transport)
        assert answer.stream is not None
        answer.stream.read(10)
        answer.stream.close()
        assert not transport._idle
        with pytest.raises(ValueError, match="closed"):
            answer.stream.read(1)


def test_an_announced_length_over_the_limit_is_refused_before_a_byte_is_read() -> None:
    with serve(flood(5)) as port, pytest.raises(BadAnswer, match="longer than 1000 bytes"):
        fetch(port, limit=1000)


# --- up -----------------------------------------------------------------------------------------------------------


def sink(received: list[bytes]) -> Play:
    """Keep the head, and of the body its first bytes and its length."""

    def play(client: socket.socket) -> None:
        start = read_head(client)
        top, _, rest = start.partition(b"\r\n\r\n")
        received.append(top)
        client.settimeout(0.3)
        total = len(rest)
        first = rest
        try:
            while piece := client.recv(MEGABYTE):
                total += len(piece)
                first = (first + piece)[:200]
        except TimeoutError:
            pass
        received.extend((first, str(total).encode()))
        client.sendall(OK)

    return play


def test_a_file_goes_up_with_its_length_and_bounded_memory(tmp_path: Any) -> None:
    file = tmp_path / "big"
    with file.open("wb") as opened:
        opened.truncate(50 * MEGABYTE)
    received: list[bytes] = []
    with serve(sink(received)) as port, file.open("rb") as opened:
        opened.seek(MEGABYTE)
        tracemalloc.start()
        answer = fetch(port, body=Upload(opened), seconds=20)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert whole(answer) == b"ok"
    assert b"Content-Length: %d" % (49 * MEGABYTE) in received[0]
    assert received[2] == b"%d" % (49 * MEGABYTE)
    assert peak < 4 * MEGABYTE


def test_an_iterator_goes_up_in_chunks() -> None:
    received: list[bytes] = []
    with serve(sink(received)) as port:
        assert whole(fetch(port, body=Upload(iter([b"abc", b"", bytearray(b"defg")])))) == b"ok"
    assert b"Transfer-Encoding: chunked" in received[0]
    assert b"Content-Length" not in received[0]
    assert received[1] == b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"


def test_an_upload_without_end_stops_when_the_other_side_closes() -> None:
    def play(client: socket.socket) -> None:
        read_head(client)
        client.sendall(b"HTTP/1.1 413 Too Much\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        client.shutdown(socket.SHUT_RDWR)

    with serve(play) as port, suppress(BadAnswer):  # a reset may overtake the answer
        assert fetch(port, body=Upload(itertools.repeat(b"x" * 65_536))).status == 413


def test_an_upload_that_the_other_side_does_not_read_ends_at_the_deadline() -> None:
    with serve(lambda client: time.sleep(3)) as port:
        now = time.monotonic()
        with pytest.raises(CallTimeout):
            Transport(LOOPBACK).send(
                Origin("http", "127.0.0.1", port), "POST", "/", {}, Upload(itertools.repeat(b"x" * 65_536)),
                deadline=now + 0.4,
            )  # fmt: skip
        assert time.monotonic() - now < 1.5


def test_an_error_of_the_callers_own_source_stays_that_error() -> None:
    def broken() -> Iterator[bytes]:
        yield b"abc"
        raise OSError("the disk is gone")

    with serve(sink([])) as port, pytest.raises(OSError, match="the disk is gone"):
        fetch(port, body=Upload(broken()))
    with serve(sink([])) as port, pytest.raises(InvalidInput, match="gave str"):
        fetch(port, body=Upload(iter(["text"])))


@pytest.mark.parametrize(("change", "problem"), [(b"more", "grew"), (b"", "shrank")])
def test_a_file_that_changes_its_length_is_an_error(change: bytes, problem: str) -> None:
    file = io.BytesIO(b"12345678")
    upload = Upload(file)
    if change:
        file.seek(8)
        file.write(change)
    else:
        file.truncate(3)
    file.seek(0)
    with serve(sink([])) as port, pytest.raises(InvalidInput, match=problem):
        fetch(port, body=upload)


def test_a_file_can_be_sent_again_and_an_iterator_cannot() -> None:
    upload = Upload(io.BytesIO(b"abc"))
    for _ in range(2):
        assert upload.rewind()
        assert b"".join(upload.pieces()) == b"abc"
    once = Upload(iter([b"abc"]))
    assert once.rewind()
    list(once.pieces())
    assert not once.rewind()


def test_a_raw_stream_is_not_unpacked_and_can_be_looked_into() -> None:
    packed = gzip.compress(b"hello " * 1000)
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(packed), packed)
    with serve(answering(answer)) as port:
        sent = fetch(port, is_raw=True)
        assert sent.stream is not None
        assert sent.stream.preview(12, time.monotonic() + 5) in (b"", b"hello hello ")
        assert sent.stream.preview(64_000, time.monotonic() + 5).startswith(b"hello hello ")
        assert sent.stream.read(-1) == packed


def test_a_stream_can_be_waited_for() -> None:
    may_go_on = threading.Event()

    def play(client: socket.socket) -> None:
        read_head(client)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
        may_go_on.wait(5)
        client.sendall(b"def")

    with serve(play) as port:
        sent = fetch(port)
        assert sent.stream is not None
        assert sent.stream.wait(1)
        assert sent.stream.read(100) == b"abc"
        assert not sent.stream.wait(0.05)
        may_go_on.set()
        assert sent.stream.wait(2)
        assert sent.stream.read(100) == b"def"
        assert sent.stream.wait(0)
        assert sent.stream.read(100) == b""


def test_a_piece_of_a_chunked_body_is_waited_for_and_not_its_framing() -> None:
    """A reader that has a chunk would wait for the next one's size behind the line end that closed the first."""
    steps = [threading.Event() for _ in range(4)]

    def play(client: socket.socket) -> None:
        read_head(client)
        client.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        for step, framing in zip(steps, (b"0", b"3;x=1\r", b"\n", b"def\r\n0\r\n\r\n"), strict=True):
            step.wait(5)
            client.sendall(framing)

    with serve(play) as port:
        stream = fetch(port, is_raw=True).stream
        assert stream is not None
        assert stream.wait(5)
        assert stream.read(100) == b"abc"
        for step in steps[:3]:
            assert not stream.wait(0.05)
            step.set()
            assert not stream.wait(0.1)
        steps[3].set()
        assert stream.wait(5)
        assert stream.read(100) == b"def"
        assert stream.wait(5)
        assert stream.read(100) == b""
        assert stream.is_over


def test_nobody_waits_past_the_deadline() -> None:
    may_end = threading.Event()

    def play(client: socket.socket) -> None:
        read_head(client)
        client.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        may_end.wait(5)

    with serve(play) as port:
        stream = fetch(port, seconds=0.2, is_raw=True).stream
        assert stream is not None
        assert stream.read(100) == b"abc"
        assert stream.wait(5)
        with pytest.raises(CallTimeout):
            stream.read(100)
        may_end.set()


def test_a_look_into_a_body_has_a_deadline_of_its_own() -> None:
    may_end = threading.Event()

    def play(client: socket.socket) -> None:
        read_head(client)
        client.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        may_end.wait(5)

    with serve(play) as port:
        stream = fetch(port, is_raw=True).stream
        assert stream is not None
        with pytest.raises(CallTimeout):
            stream.preview(1000, time.monotonic() + 0.1)
        may_end.set()


def test_a_stream_has_its_own_deadline_again_after_a_look() -> None:
    def play(client: socket.socket) -> None:
        read_head(client)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
        time.sleep(0.4)
        client.sendall(b"def")

    with serve(play) as port:
        answer = fetch(port, is_raw=True)
        assert answer.stream is not None
        assert answer.stream.preview(3, time.monotonic() + 0.2) == b"abc"
        assert whole(answer) == b"abcdef"


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_connection_whose_answer_was_framed_twice_is_not_used_again(is_streamed: bool) -> None:
    """Somebody on the way may have counted by the length, and take what follows for another answer (RFC 9112 6.3)."""
    connections: list[int] = []

    def play(client: socket.socket) -> None:
        connections.append(client.getpeername()[1])
        while True:
            read_head(client)
            client.sendall(head(Content_Length=3, Transfer_Encoding="chunked") + b"3\r\nabc\r\n0\r\n\r\n")

    with serve(play) as port:
        transport, origin = Transport(LOOPBACK), Origin("http", "127.0.0.1", port)
        for _ in range(2):
            if is_streamed:
                assert whole(fetch(port, transport)) == b"abc"
            else:
                deadline = time.monotonic() + 5
                assert transport.send(origin, "GET", "/", {}, None, deadline=deadline).body == b"abc"
    assert len(connections) == 2


@pytest.mark.parametrize(
    "framing",
    [
        b"Transfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"Transfer-Encoding: identity\r\n\r\nabc",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n3_0\r\nabc\r\n0\r\n\r\n",
    ],
)
def test_framing_that_others_might_read_otherwise_is_refused(framing: bytes) -> None:
    with serve(answering(b"HTTP/1.1 200 OK\r\n" + framing)) as port, pytest.raises(BadAnswer):
        whole(fetch(port, is_raw=True))


def test_an_upload_that_nobody_reads_ends_with_the_answer() -> None:
    """Such as 413: the other side has answered, and takes no more."""
    may_end = threading.Event()

    def play(client: socket.socket) -> None:
        read_head(client)
        client.sendall(b"HTTP/1.1 413 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        may_end.wait(10)

    with serve(play) as port:
        began = time.monotonic()
        answer = fetch(port, body=Upload(bytes(MEGABYTE) for _ in range(100)), is_raw=True)
        assert (answer.status, whole(answer)) == (413, b"no")
        assert time.monotonic() - began < 4
        may_end.set()


def test_an_upload_that_stalls_has_the_time_of_a_piece() -> None:
    may_end = threading.Event()

    def play(client: socket.socket) -> None:
        read_head(client)
        may_end.wait(10)

    with serve(play) as port:
        now = time.monotonic()
        with pytest.raises(CallTimeout):
            Transport(LOOPBACK).send(
                Origin("http", "127.0.0.1", port), "POST", "/", {}, Upload(bytes(MEGABYTE) for _ in range(100)),
                deadline=now + 0.3, stream_deadline=now + 60, is_raw=True,
            )  # fmt: skip
        assert time.monotonic() - now < 3
        may_end.set()
