"""HTTP itself: keep-alive, framing, and hostile input that must neither pass nor stop the service."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator

import pytest

from tests.connections.sandbox.conftest import Client, exchange, read_error
from tests.sandbox import Sandbox, start_sandbox, stop_sandbox

HOST = b"Host: localhost\r\n"

MALFORMED = {
    "no http at all": (b"\x16\x03\x01\x02\x00\x01\x00", 400, "bad_request_line"),
    "nul first": (b"\x00\x00\x00\x00", 400, "bad_request_line"),
    "no version": (b"GET /echo\r\n\r\n", 400, "bad_request_line"),
    "two spaces": (b"GET  /echo HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_request_line"),
    "nul in the path": (b"GET /ec\x00ho HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_request_line"),
    "raw utf-8 in the path": (b"GET /\xc3\xa9 HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_request_line"),
    "http/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "bad_version"),
    "other url scheme": (b"GET file:///etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_target"),
    "no host": (b"GET /echo HTTP/1.1\r\n\r\n", 400, "bad_host"),
    "two hosts": (b"GET /echo HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400, "duplicate_header"),
    "strange host": (b"GET /echo HTTP/1.1\r\nHost: a/b<script>\r\n\r\n", 400, "bad_host"),
    "nul in a header": (b"GET /echo HTTP/1.1\r\n" + HOST + b"X: a\x00b\r\n\r\n", 400, "bad_header"),
    "bare newline": (b"GET /echo HTTP/1.1\r\n" + HOST + b"X: a\nY: b\r\n\r\n", 400, "bad_header"),
    "folded header": (b"GET /echo HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n", 400, "bad_header"),
    "space before colon": (b"GET /echo HTTP/1.1\r\n" + HOST + b"X : a\r\n\r\n", 400, "bad_header"),
    "no colon": (b"GET /echo HTTP/1.1\r\n" + HOST + b"X\r\n\r\n", 400, "bad_header"),
    "huge header": (b"GET /echo HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 70_000 + b"\r\n\r\n", 431, "head_too_large"),
    "endless path": (b"GET /" + b"a" * 70_000, 431, "head_too_large"),
    "many headers": (b"GET /echo HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 300 + b"\r\n", 431, "too_many_headers"),
    "negative length": (b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n", 400, "bad_length"),
    "length with sign": (b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: +1\r\n\r\nx", 400, "bad_length"),
    "two lengths": (
        b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        400,
        "duplicate_header",
    ),
    "length and chunks": (
        b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "ambiguous_length",
    ),
    "unknown coding": (
        b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        501,
        "bad_transfer_encoding",
    ),
    "chunk of no size": (
        b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        400,
        "bad_chunk",
    ),
    "chunk beyond its size": (
        b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        400,
        "bad_chunk",
    ),
    "body over the limit": (
        b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999\r\n\r\n",
        413,
        "body_too_large",
    ),
    "chunk over the limit": (
        b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nffffffff\r\n",
        413,
        "body_too_large",
    ),
    "too many parameters": (
        b"GET /echo?" + b"a&" * 2_000 + b" HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n",
        400,
        "too_many_fields",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_requests_are_refused_and_the_next_one_is_served(sandbox: Sandbox, client: Client, name: str) -> None:
    data, status, code = MALFORMED[name]
    assert read_error(exchange(sandbox.port, data, has_more=True)) == (status, code)
    assert client.get("/me").status_code == 200


def test_a_header_of_spaces_costs_no_time(sandbox: Sandbox) -> None:
    """Guards against an expression that looks back: 60,000 spaces and a NUL once meant minutes."""
    data = b"GET /echo HTTP/1.1\r\n" + HOST + b"X:" + b" " * 60_000 + b"\x00\r\n\r\n"
    began = time.monotonic()
    assert read_error(exchange(sandbox.port, data, has_more=True)) == (400, "bad_header")
    assert time.monotonic() - began < 2


def test_clients_that_leave_in_the_middle_do_no_harm(sandbox: Sandbox, client: Client) -> None:
    for data in (
        b"",
        b"GET",
        b"GET /echo HTTP/1.1\r\nHo",
        b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\nabc",
    ):
        assert exchange(sandbox.port, data) == b""
    assert client.get("/me").status_code == 200


def test_several_requests_share_a_connection_and_may_be_sent_at_once(sandbox: Sandbox) -> None:
    one = b"GET /status/200 HTTP/1.1\r\n" + HOST + b"\r\n"
    answers = exchange(sandbox.port, one + one + b"GET /me HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert answers.count(b"Connection: keep-alive") == 2


def test_http_1_0_closes_unless_asked(sandbox: Sandbox) -> None:
    answer = exchange(sandbox.port, b"GET /me HTTP/1.0\r\n\r\n", has_more=True)
    assert b"Connection: close\r\n" in answer


def test_each_answer_has_a_request_id_of_its_own(client: Client) -> None:
    assert client.get("/me").headers["X-Request-Id"] != client.get("/me").headers["X-Request-Id"]


@pytest.mark.parametrize("path", ["/me", "/big?bytes=5", "/gzip-bomb?bytes=5"])
def test_head_is_a_head_alone(sandbox: Sandbox, path: str) -> None:
    data = f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    head, _, body = exchange(sandbox.port, data.encode()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: " in head or b"Transfer-Encoding: " in head
    assert body == b""


def test_chunked_bodies_and_100_continue(sandbox: Sandbox) -> None:
    head = (
        b"POST /echo HTTP/1.1\r\n"
        + HOST
        + b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    )
    answer = exchange(sandbox.port, head + b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nTrailer: t\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert json.loads(answer.rpartition(b"\r\n\r\n")[2])["body"] == "abcdefg"


def test_absolute_targets_as_a_proxy_sends_them(sandbox: Sandbox) -> None:
    data = b"GET http://localhost/auth/none/me?x=1 HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    assert b'"scheme":"none"' in exchange(sandbox.port, data)


def test_unknown_paths_and_methods(client: Client) -> None:
    assert client.get("/nowhere").status_code == 404
    assert client.get("/auth/magic/me").json()["error"]["code"] == "unknown_scheme"
    answer = client.post("/balance")
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET, HEAD"


def test_the_root_lists_every_route_and_scheme(client: Client) -> None:
    answer = client.get("/").json()
    assert {"/echo", "/flaky", "/items/cursor", "/graphql"} <= {route["path"] for route in answer["routes"]}
    assert answer["schemes"]["bearer"] == "/auth/bearer"


@pytest.fixture
def hasty() -> Iterator[Sandbox]:
    """A sandbox that gives a request 0.3 seconds."""
    started = start_sandbox("--patience", "0.3")
    yield started
    stop_sandbox(started)


def test_a_slow_client_is_sent_away_however_steadily_it_drips(hasty: Sandbox) -> None:
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", hasty.port), timeout=5) as slow:
        for byte in b"GET /me HTTP/1.1\r\nX-Long: aaaaaaaaaaaaaaaaaaaa":
            slow.sendall(bytes([byte]))
            slow.settimeout(0.02)
            try:
                answer = slow.recv(65_536)
                break
            except TimeoutError:
                continue
        else:
            pytest.fail("the slow client was never sent away")
    assert read_error(answer) == (408, "too_slow")
    assert 0.25 < time.monotonic() - began < 1.5


def test_many_slow_clients_do_not_hold_up_a_quick_one(sandbox: Sandbox, client: Client) -> None:
    slow = [socket.create_connection(("127.0.0.1", sandbox.port)) for _ in range(100)]
    for connection in slow:
        connection.sendall(b"GET /me HT")
    began = time.monotonic()
    assert client.get("/me").status_code == 200
    assert time.monotonic() - began < 1
    for connection in slow:
        connection.close()
