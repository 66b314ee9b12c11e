"""The gateway behind a real server: streams, crowds, crashes, and clients that leave."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import signal
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from connections.models import IdempotentCall
from tests.connections.gateway.conftest import Connect, proxied
from tests.processes import resident_bytes
from tests.sandbox import Sandbox
from tests.sockets import Play, read_head, serve
from tests.web import Web
from tests.web import serve as serve_web

pytestmark = pytest.mark.django_db(transaction=True)

_MIB = 2**20


def ask(
    web: Web, method: str, path: str, token: str, body: Any = None, **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = web.connect()
    try:
        connection.request(method, path, body, {"Authorization": f"Bearer {token}", **headers})
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def pieces(count: int, size: int = 100_000) -> Iterator[bytes]:
    for number in range(count):
        yield bytes([number % 251]) * size


def digest_of(bodies: Iterator[bytes]) -> str:
    whole = hashlib.sha256()
    for body in bodies:
        whole.update(body)
    return whole.hexdigest()


# --- bodies ---


def test_a_chunked_body_arrives_whole(web: Web, connect: Connect, token: str) -> None:
    """Short ones are read first and sent with their length, long ones as they come."""
    row = connect()
    for count in (1, 40):
        answer, body = ask(web, "POST", proxied(row, "/echo"), token, pieces(count))
        assert answer.status == 200
        assert digest_of(pieces(count)).encode() in body


def test_a_body_without_a_length_or_chunks_is_none(web: Web, connect: Connect, token: str) -> None:
    answer, body = ask(web, "POST", proxied(connect(), "/echo"), token)
    assert (answer.status, b'"body_bytes":0' in body) == (200, True)


def test_an_upload_that_ends_early_is_no_upload(web: Web, connect: Connect, token: str) -> None:
    """The provider sees a connection that breaks, never a short body that looks whole."""
    received: list[int] = []
    has_ended = threading.Event()

    def play(client: socket.socket) -> None:
        count = len(read_head(client))
        with contextlib.suppress(OSError):
            while piece := client.recv(65536):
                count += len(piece)
        received.append(count)
        has_ended.set()

    with serve(play) as port:
        path = proxied(connect("none", base_url=f"http://127.0.0.1:{port}"), "/x")
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 10000000\r\n\r\n"
        with socket.create_connection(("127.0.0.1", web.port)) as client:
            client.sendall(head.encode() + b"x" * 1_000_000)
            time.sleep(0.3)
        assert has_ended.wait(5)
    assert 0 < received[0] < 2_000_000


def test_events_come_as_they_are_sent(web: Web, connect: Connect, token: str) -> None:
    def play(client: socket.socket) -> None:
        read_head(client)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(3):
            client.sendall(b"9\r\ndata: %d\n\n\r\n" % number)
            time.sleep(1.3)
        client.sendall(b"0\r\n\r\n")

    with serve(play) as port:
        path = proxied(connect("none", base_url=f"http://127.0.0.1:{port}"), "/x")
        connection = web.connect()
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        answer, began = connection.getresponse(), time.monotonic()
        heard = [(answer.read(9), time.monotonic() - began) for _ in range(3)]
        assert answer.read() == b""
        connection.close()
    assert [event for event, _ in heard] == [b"data: 0\n\n", b"data: 1\n\n", b"data: 2\n\n"]
    assert [round(at / 1.3) for _, at in heard] == [0, 1, 2]


@pytest.mark.parametrize("length", [3, 1_000_000])
def test_an_answer_that_breaks_off_does_not_look_whole(web: Web, connect: Connect, token: str, length: int) -> None:
    def play(client: socket.socket) -> None:
        read_head(client)
        client.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (length, bytes(length)))

    with serve(play) as port:
        row = connect("none", base_url=f"http://127.0.0.1:{port}", retry_config={"max_retries": 0})
        connection = web.connect(timeout=2)
        connection.request("GET", proxied(row, "/x"), headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        if length == 3:
            assert (answer.status, b"BAD_ANSWER" in answer.read()) == (502, True)
        else:
            with pytest.raises(TimeoutError):
                answer.read()
        connection.close()


def test_a_short_answer_of_unknown_length_gets_one(web: Web, connect: Connect, token: str) -> None:
    def play(client: socket.socket) -> None:
        read_head(client)
        client.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        client.sendall(b"2\r\nde\r\n0\r\n\r\n")

    with serve(play) as port:
        answer, body = ask(web, "GET", proxied(connect("none", base_url=f"http://127.0.0.1:{port}"), "/x"), token)
    assert (answer.headers["Content-Length"], body) == ("5", b"abcde")


# --- clients that leave ---


@pytest.mark.parametrize(
    "framing", [b"\r\n%b", b"Transfer-Encoding: chunked\r\n\r\n9\r\n%b\r\n"], ids=["plain", "chunked"]
)
@pytest.mark.parametrize("is_silent", [False, True], ids=["while it is sent", "while nothing comes"])
def test_a_client_that_leaves_ends_its_call(
    web: Web, connect: Connect, token: str, is_silent: bool, framing: bytes
) -> None:
    has_ended = threading.Event()

    def play(client: socket.socket) -> None:
        read_head(client)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + framing % b"data: 1\n\n")
        with contextlib.suppress(OSError):
            if is_silent:
                client.recv(1)  # returns when the gateway closes
            else:
                piece = b"data: 2\n\n" if b"%b\r\n" not in framing else b"9\r\ndata: 2\n\n\r\n"
                while True:
                    client.sendall(piece * 1000)
        has_ended.set()

    with serve(play) as port:
        path = proxied(connect("none", base_url=f"http://127.0.0.1:{port}"), "/x")
        connection = web.connect()
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        assert connection.getresponse().read(9) == b"data: 1\n\n"
        assert not has_ended.is_set()
        connection.sock.shutdown(socket.SHUT_RDWR)
        connection.close()
        assert has_ended.wait(5)


def test_lines_come_as_they_are_sent(web: Web, connect: Connect, token: str) -> None:
    """Not when all of them have come: models and logs speak so."""
    may_go_on = threading.Event()

    def play(client: socket.socket) -> None:
        read_head(client)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(10):  # never a pause that is long
            client.sendall(b'8\r\n{"a":%d}\n\r\n' % number)
            time.sleep(0.1)
        assert may_go_on.wait(5)
        client.sendall(b"0\r\n\r\n")

    with serve(play) as port:
        path = proxied(connect("none", base_url=f"http://127.0.0.1:{port}"), "/x")
        connection = web.connect()
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        assert answer.read(8) == b'{"a":0}\n'
        may_go_on.set()
        assert len(answer.read()) == 72
        connection.close()


def test_an_answer_of_known_length_that_is_cut_short_breaks_off(web: Web, connect: Connect, token: str) -> None:
    def play(client: socket.socket) -> None:
        read_head(client)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + bytes(200_000))

    with serve(play) as port:
        path, before = proxied(connect("none", base_url=f"http://127.0.0.1:{port}"), "/x"), len(web.log)
        connection = web.connect()
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}", "X-Request-Id": "cut-short-1"})
        answer = connection.getresponse()
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            answer.read()
        connection.close()
    lines = web.log[before:].splitlines()
    (line,) = [line for line in lines if "cut short" in line]
    assert json.loads(line)["request_id"] == "cut-short-1"
    assert not [line for line in lines if "Traceback" in line]


def test_slow_senders_do_not_hold_up_others(tmp_path: Path, connect: Connect, token: str) -> None:
    row, healthy = connect(), connect()
    with serve_web(tmp_path, threads=8) as web, contextlib.ExitStack() as slow:
        head = f"POST {proxied(row, '/echo')} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        for _ in range(12):
            client = slow.enter_context(socket.create_connection(("127.0.0.1", web.port)))
            client.sendall(f"{head}Content-Length: 1000\r\n\r\nabc".encode())
        answer, _ = ask(web, "GET", proxied(healthy, "/me"), token)
        assert answer.status == 200


# --- crowds ---


def test_hanging_calls_do_not_hold_up_others(web: Web, connect: Connect, token: str, sandbox: Sandbox) -> None:
    """With a database pool of 8 (`tests.web`)."""
    healthy, sick = proxied(connect(), "/me"), proxied(connect(), "/hang")
    for _ in range(3):
        ask(web, "GET", healthy, token)
    alone = _p99(web, healthy, token)
    hanging = []
    for _ in range(50):
        client = socket.create_connection(("127.0.0.1", web.port))
        client.sendall(f"GET {sick} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        hanging.append(client)
    time.sleep(1)
    beside = _p99(web, healthy, token)
    for client in hanging:
        client.close()
    # A machine that has other things to do is late by itself.
    assert beside < max(2 * alone, 0.05), f"{alone * 1000:.1f} ms alone, {beside * 1000:.1f} ms beside them"


def _p99(web: Web, path: str, token: str) -> float:
    times = []
    connection = web.connect()
    for _ in range(150):
        began = time.perf_counter()
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        answer.read()
        times.append(time.perf_counter() - began)
        assert answer.status == 200
    connection.close()
    return statistics.quantiles(times, n=100)[98]


# --- memory ---


def _download(size: int) -> Play:
    def play(client: socket.socket) -> None:
        read_head(client)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // _MIB):
            client.sendall(bytes(_MIB))

    return play


def _upload(size: int) -> Play:
    def play(client: socket.socket) -> None:
        received = len(read_head(client).partition(b"\r\n\r\n")[2])
        buffer = bytearray(_MIB)
        while received < size:
            received += client.recv_into(buffer)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    return play


@pytest.mark.parametrize("direction", ["down", "up"])
def test_a_gigabyte_takes_no_memory(web: Web, connect: Connect, token: str, direction: str) -> None:
    size = 1024 * _MIB
    with serve(_download(size) if direction == "down" else _upload(size)) as port:
        path = proxied(connect("none", base_url=f"http://127.0.0.1:{port}", timeout_ms=60_000), "/x")
        ask(web, "GET", proxied(connect(), "/me"), token)
        before, most, is_over = resident_bytes(web.worker_pid), [0], threading.Event()

        def watch() -> None:
            while not is_over.wait(0.05):
                most[0] = max(most[0], resident_bytes(web.worker_pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            moved = _pull(web, path, token) if direction == "down" else _push(web, path, token, size)
        finally:
            is_over.set()
            watcher.join()
    assert moved == size
    assert most[0] - before <= 64 * _MIB, f"{(most[0] - before) / _MIB:.0f} MiB more"


def _pull(web: Web, path: str, token: str) -> int:
    connection = web.connect(timeout=60)
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    answer, buffer, received = connection.getresponse(), bytearray(_MIB), 0
    while count := answer.readinto(buffer):
        received += count
    connection.close()
    return received


def _push(web: Web, path: str, token: str, size: int) -> int:
    connection = web.connect(timeout=60)
    headers = {"Authorization": f"Bearer {token}", "Content-Length": str(size)}
    connection.request("PUT", path, (bytes(_MIB) for _ in range(size // _MIB)), headers)
    answer = connection.getresponse()
    assert answer.status == 200
    connection.close()
    return size


# --- two processes ---


def test_one_key_is_one_call_also_when_its_process_is_killed(
    web: Web, connect: Connect, token: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    name = f"killed-{uuid4().hex}"
    path = proxied(connect(), f"/slow?seconds=3&key={name}")
    with serve_web(tmp_path, threads=4) as doomed, socket.create_connection(("127.0.0.1", doomed.port)) as client:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nIdempotency-Key: {name}\r\n"
        client.sendall(f"{head}Content-Length: 0\r\n\r\n".encode())
        deadline = time.monotonic() + 10
        while sandbox.count(name) == 0:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        answer, body = ask(web, "POST", path, token, b"", **{"Idempotency-Key": name})
        assert (answer.status, b"IDEMPOTENCY_CALL_IN_PROGRESS" in body) == (409, True)
        os.kill(doomed.worker_pid, signal.SIGKILL)
    answer, body = ask(web, "POST", path, token, b"", **{"Idempotency-Key": name})
    assert (answer.status, b"IDEMPOTENCY_CALL_IN_PROGRESS" in body) == (409, True)
    IdempotentCall.objects.update(leased_until=timezone.now())  # two and a half minutes later
    answer, body = ask(web, "POST", path, token, b"", **{"Idempotency-Key": name})
    assert (answer.status, b"IDEMPOTENCY_CALL_IN_DOUBT" in body) == (409, True)
    assert sandbox.count(name) == 1
