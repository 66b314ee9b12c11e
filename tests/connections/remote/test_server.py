"""The way to the server: it is away, slow, somebody else, or not what the key should be shown to."""

from __future__ import annotations

import gzip
import logging
import pickle
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from connections.remote import RemoteClient, Server, get_api_client
from external_apis.errors import BadAnswer, CallTimeout, ConnectFailed, InvalidInput, ServiceUnavailable
from tests.sockets import answering, read_head, serve

KEY = "key-of-another-service"


def play_facts(then: Callable[[socket.socket, bytes], None]) -> Callable[[socket.socket], None]:
    """Describe a connection, and do ``then`` with every other request."""

    def play(client: socket.socket) -> None:
        while True:
            head = read_head(client)
            if b"/client" not in head.split(b"\r\n")[0]:
                then(client, head)
                return
            facts = b'{"id":"conn_1","name":"a/b","baseUrl":"https://api.example.com/v1","requestEncoding":"json",'
            body = b'{"success":true,"data":%s"graphqlPath":null,"pagination":null}}' % facts
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    return play


def remote_to(port: int, **options: Any) -> RemoteClient:
    return RemoteClient(Server(f"http://127.0.0.1:{port}", KEY, **options), "a/b")


def passed(head: bytes, body: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\nX-Upstream-Latency-Ms: 1\r\nConnection: close\r\n" + head + b"\r\n" + body


def test_only_what_did_not_connect_is_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    waits: list[float] = []
    with pytest.raises(ConnectFailed) as caught:
        remote_to(port, sleep=waits.append).get("/x")
    assert waits == [0.2, 1.0]
    assert KEY not in f"{caught.value!r} {caught.value.__context__!r}"
    seen: list[bytes] = []
    with serve(play_facts(lambda _, head: seen.append(head))) as port, pytest.raises(BadAnswer) as broken:
        remote_to(port, sleep=waits.append).post("/x", {"a": 1})
    assert broken.value.may_have_happened
    assert len(seen) == 1
    assert len(waits) == 2


def test_a_server_that_comes_back_meanwhile_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    servers: list[socket.socket] = []

    def start(_seconds: float) -> None:
        servers.append(socket.create_server(("127.0.0.1", port)))

    with pytest.raises(CallTimeout):  # which is to say that it did connect
        remote_to(port, sleep=start)._server.ask("/", {}, timeout_seconds=1)
    assert len(servers) == 1
    servers[0].close()


def test_answers_that_do_not_end() -> None:
    def drip(client: socket.socket, _: bytes) -> None:
        client.sendall(passed(b"Content-Length: 1000\r\n"))
        while True:
            client.sendall(b"x")
            time.sleep(0.02)

    with serve(play_facts(drip)) as port:
        client, began = remote_to(port), time.monotonic()
        with pytest.raises(CallTimeout):
            client.get("/x", deadline_ms=300)
        assert time.monotonic() - began < 2


def test_huge_answers() -> None:
    bomb = gzip.compress(b"0" * 20_000_000)

    def explode(client: socket.socket, _: bytes) -> None:
        client.sendall(passed(b"Content-Encoding: gzip\r\nContent-Length: %d\r\n" % len(bomb), bomb))

    with serve(play_facts(explode)) as port, pytest.raises(BadAnswer, match="longer than"):
        remote_to(port).get("/x")
    flood = b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n" + b'{"a":' * 1_000_000
    with serve(answering(flood)) as port, pytest.raises(BadAnswer, match="longer than"):
        remote_to(port).get("/x")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/steal\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\n<html>",
        b"HTTP/1.1 500 X\r\nContent-Length: 60\r\n\r\n" + b"[" * 60,
        b'HTTP/1.1 400 X\r\nContent-Length: 25\r\n\r\n{"success":false,"error":',
    ],
)
def test_whoever_else_answers_is_not_taken_for_the_server(answer: bytes) -> None:
    heads: list[bytes] = []

    def play(client: socket.socket, head: bytes) -> None:
        heads.append(head)
        client.sendall(answer)

    with serve(play_facts(play)) as port, pytest.raises(ServiceUnavailable):
        remote_to(port).get("/x")
    assert len(heads) == 1  # no redirect was followed

    with serve(answering(answer)) as port, pytest.raises(ServiceUnavailable):
        remote_to(port).get("/x")


def test_the_key_is_nowhere_to_be_seen(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    heads: list[bytes] = []

    def play(client: socket.socket, head: bytes) -> None:
        heads.append(head)
        client.sendall(passed(b"Set-Cookie: a=b; Path=/\r\nContent-Length: 2\r\n", b"ok"))

    with serve(play_facts(play)) as port:
        client = remote_to(port)
        answer = client.get("/x")
        client.get("/x")
    assert f"Bearer {KEY}".encode() in heads[0]
    assert b"Cookie" not in heads[1]
    assert KEY not in heads[0].split(b"\r\n")[0].decode()
    seen = (answer.request.headers, answer.url, answer.request.url, client, client._server, client._server._auth)
    assert KEY not in f"{seen!r} {caplog.text} {answer.headers}"
    for thing in (client, client._server):
        with pytest.raises(TypeError):
            pickle.dumps(thing)


@pytest.mark.parametrize(
    "url",
    ["", "ftp://x", "http://", "http://u:p@x", "http://x?a=b", "http://x#a", "http://x:99999", "http://x\ny"],
)
def test_urls_that_are_none(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EAM_URL", raising=False)
    with pytest.raises(InvalidInput) as caught:
        get_api_client("a/b", base_url=url, key=KEY)
    assert "u:p" not in str(caught.value)


@pytest.mark.parametrize("key", ["", "a b", "a\r\nX: y", "ä", "x" * 5000])
def test_keys_that_are_none(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EAM_KEY", raising=False)
    with pytest.raises(InvalidInput) as caught:
        get_api_client("a/b", base_url="http://127.0.0.1", key=key)
    assert not key or key not in str(caught.value)


@pytest.mark.parametrize("reference", ["", "a/b/c", "/a", "a/", "..", "a/..", ".", "\ud800", 7])
def test_references_that_are_none(reference: Any) -> None:
    with pytest.raises(InvalidInput):
        get_api_client(reference, base_url="http://127.0.0.1", key=KEY)
