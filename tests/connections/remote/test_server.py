"""The way to the server: it is away, slow, somebody else, or not what the key should be shown to."""

from __future__ import annotations

import gzip
import io
import json
import logging
import os
import pickle
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from connections.gateway import headers as gateway_headers
from connections.remote import RemoteClient, Server, get_api_client
from connections.remote import client as client_module
from external_apis.errors import (
    BadAnswer,
    CallError,
    CallTimeout,
    ConnectFailed,
    InvalidInput,
    PayloadTooLarge,
    ServiceUnavailable,
)
from tests.connections.client.test_client_certificate import AUTHORITY, chain_pem, key_pem, make_certificate
from tests.sockets import answering, read_head, serve, trickle

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


def _drip_head(client: socket.socket, _: bytes) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\nX-Drip: ")
    while True:
        client.sendall(b"x")
        time.sleep(0.02)


def _go_on_and_on(client: socket.socket, _: bytes) -> None:
    while True:
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.02)


def _fall_silent(client: socket.socket, _: bytes) -> None:
    time.sleep(0.2)
    client.sendall(passed(b"Content-Length: 10\r\n"))
    client.recv(1)


@pytest.mark.parametrize("play", [_drip_head, _go_on_and_on, _fall_silent])
@pytest.mark.parametrize("limit", ["deadline_ms", "timeout_ms"])
def test_every_wait_ends_by_the_deadline(play: Any, limit: str) -> None:
    with serve(play_facts(play)) as port:
        client, began = remote_to(port), time.monotonic()
        with pytest.raises(CallTimeout) as caught:
            client.get("/x", **{limit: 300})
        assert 0.25 < time.monotonic() - began < 0.6
        assert caught.value.may_have_happened


def test_a_stream_has_until_the_deadline() -> None:
    def drip(client: socket.socket, _: bytes) -> None:
        client.sendall(passed(b"Content-Length: 1000\r\n"))
        while True:
            client.sendall(b"x")
            time.sleep(0.02)

    with serve(play_facts(drip)) as port:
        client, began = remote_to(port), time.monotonic()
        with client.get("/x", stream=True, timeout_ms=100, deadline_ms=400) as answer, pytest.raises(CallTimeout):
            list(answer.iter_content(1))
        assert 0.35 < time.monotonic() - began < 0.7
        with client.get("/x", stream=True, max_body_bytes=5) as answer, pytest.raises(BadAnswer, match="longer than"):
            list(answer.iter_content(1))


@pytest.mark.parametrize("framing", [b"Content-Length: 100\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_a_stream_that_breaks_off_is_an_error_of_ours(framing: bytes) -> None:
    with serve(play_facts(lambda client, _: client.sendall(passed(framing, b"5\r\nabcde\r\n")))) as port:
        with remote_to(port).get("/x", stream=True) as answer, pytest.raises(BadAnswer):
            list(answer.iter_content(1))
        with pytest.raises(BadAnswer):
            remote_to(port).get("/x")


def test_the_look_up_holds_up_nobody_beyond_his_deadline() -> None:
    def hang(client: socket.socket) -> None:
        read_head(client)
        client.recv(1)

    with serve(hang) as port:
        client = remote_to(port)

        def call() -> float:
            began = time.monotonic()
            with pytest.raises(CallTimeout):
                client.get("/x", deadline_ms=300)
            return time.monotonic() - began

        with ThreadPoolExecutor(4) as threads:
            assert max(threads.map(lambda _: call(), range(4))) < 0.7


def test_facts_age(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_FACTS_SECONDS", 0.05)
    bases, paths = ["https://api.example.com/v1", "https://api.example.com/v2"], []

    def play(client: socket.socket) -> None:
        while True:
            path = read_head(client).split()[1].decode()
            paths.append(path)
            if "/client" in path:
                data = {"id": "conn_1", "name": "a/b", "baseUrl": bases[0], "requestEncoding": "json"}
                body = json.dumps({"success": True, "data": {**data, "graphqlPath": None, "pagination": None}}).encode()
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            else:
                client.sendall(b"HTTP/1.1 200 OK\r\nX-Upstream-Latency-Ms: 1\r\nContent-Length: 0\r\n\r\n")

    with serve(play) as port:
        client = remote_to(port)
        assert client.get("/a").url == "https://api.example.com/v1/a"
        assert client.get("/v1/a").url == "https://api.example.com/v1/v1/a"
        bases.pop(0)
        time.sleep(0.06)
        assert client.get("/a").url == "https://api.example.com/v2/a"
    home = "/api/external/proxy/conn_1"
    # Below whatever base URL the gateway knows; only what looks like one is written out.
    assert [path for path in paths if "/client" not in path] == [f"{home}/a", f"{home}/v1/v1/a", f"{home}/a"]


def test_children_do_not_share_connections_with_their_parent() -> None:
    def play(client: socket.socket) -> None:
        while True:
            path = read_head(client).split()[1]
            time.sleep(0.02 if path == b"/slow" else 0)
            body = b'{"success":true,"data":{"path":"%s"}}' % path
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    with serve(play) as port:
        server = Server(f"http://127.0.0.1:{port}", KEY)
        assert server.ask("/first", {}) == {"path": "/first"}
        children = []
        for path in ("/slow", "/fast"):
            child = os.fork()
            if child == 0:
                code = 1
                with suppress(BaseException):
                    code = 0 if all(server.ask(path, {}) == {"path": path} for _ in range(20)) else 2
                os._exit(code)
            children.append(child)
        assert server.ask("/parent", {}) == {"path": "/parent"}  # over what it had
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]


def test_connections_are_kept_and_closed() -> None:
    seen: list[int] = []
    gone = threading.Event()

    def play(client: socket.socket) -> None:
        seen.append(client.getpeername()[1])
        try:
            while True:
                read_head(client)
                client.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"data":{}}')
        finally:
            gone.set()

    with serve(play) as port:
        with Server(f"http://127.0.0.1:{port}", KEY) as server:
            server.ask("/", {})
            server.ask("/", {})
            assert len(seen) == 1
        assert gone.wait(2)
        server.ask("/", {})
        assert len(seen) == 2


@pytest.mark.parametrize("play", [lambda client, _: None, lambda client, _: client.recv(1)])
def test_nothing_that_an_error_leads_to_holds_the_key(play: Any) -> None:
    with serve(play_facts(play)) as port, socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = listener.getsockname()[1]
        listener.close()
        for client in (remote_to(port), remote_to(nobody, sleep=lambda _: None)):
            with pytest.raises(CallError) as caught:
                client.get("/x", deadline_ms=200)
            error: BaseException | None = caught.value
            assert error is not None
            assert error.__context__ is None
            assert error.__cause__ is None
            frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if "test_" not in str(frame)]
            assert KEY not in "".join(repr(frame.f_locals) for frame in frames)


@pytest.mark.parametrize(
    "name",
    [*sorted(gateway_headers._CALLERS_OWN - {"x-request-id"}), *sorted(gateway_headers._HOP_BY_HOP),
     "X-Forwarded-For", "Proxy-Whatever", "With_Underscore"],
)  # fmt: skip
def test_fields_that_do_not_travel_are_refused_and_named(name: str) -> None:
    with serve(play_facts(lambda client, _: client.sendall(passed(b"Content-Length: 0\r\n")))) as port:
        client = remote_to(port)
        with pytest.raises(InvalidInput, match=f"(?i){name}"):
            client.get("/x", headers={name.title(): "v"})
        assert client.get("/x", headers={"X-Request-Id": "mine"}).status_code == 200


@pytest.mark.parametrize("value", ["", "caf\xe9"])
def test_values_that_do_not_travel_are_refused(value: str) -> None:
    with serve(play_facts(lambda *_: None)) as port, pytest.raises(InvalidInput, match="X-Mine"):
        remote_to(port).get("/x", headers={"X-Mine": value})


def _take(client: socket.socket, _: bytes) -> None:
    client.recv(100)


def _shrinking() -> io.BytesIO:
    class Shrinking(io.BytesIO):
        def seek(self, place: int, whence: int = 0) -> int:
            return 10 if whence == io.SEEK_END else super().seek(place, whence)

    return Shrinking(b"12345")


@pytest.mark.parametrize("data", [iter(["text"]), io.StringIO("text"), _shrinking()])
def test_uploads_that_are_no_bytes(data: Any) -> None:
    with serve(play_facts(_take)) as port, pytest.raises(InvalidInput):
        remote_to(port).post("/x", data)


def test_what_the_callers_own_source_raises_is_raised() -> None:
    def source() -> Iterator[bytes]:
        yield b"x"
        raise KeyError("mine")

    with serve(play_facts(_take)) as port, pytest.raises(KeyError, match="mine"):
        remote_to(port).post("/x", source())


def test_an_answer_before_the_end_of_an_upload_is_read() -> None:
    refusal = b'{"success":false,"error":{"code":"PAYLOAD_TOO_LARGE","message":"No."}}'

    def refuse(client: socket.socket, _: bytes) -> None:
        client.sendall(b"HTTP/1.1 413 X\r\nContent-Length: %d\r\n\r\n%s" % (len(refusal), refusal))
        client.shutdown(socket.SHUT_WR)
        while client.recv(65536):
            pass

    with serve(play_facts(refuse)) as port, pytest.raises(PayloadTooLarge):
        remote_to(port).post("/x", iter([b"x" * 100_000] * 10))


def test_a_connection_that_the_server_closed_meanwhile_is_not_used_again() -> None:
    has_closed = threading.Event()
    heads: list[bytes] = []

    def play(client: socket.socket) -> None:
        heads.append(read_head(client))
        client.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"data":{}}')
        client.shutdown(socket.SHUT_RDWR)
        has_closed.set()

    with serve(play) as port, Server(f"http://127.0.0.1:{port}", KEY) as server:
        for _ in range(2):
            assert server.ask("/", {}) == {}
            assert has_closed.wait(5)
            has_closed.clear()
    assert len(heads) == 2


def test_a_connection_with_half_an_upload_in_it_is_not_used_again() -> None:
    """The server would take the next request for the rest of the body."""
    refusal = b'{"success":false,"error":{"code":"PAYLOAD_TOO_LARGE","message":"No."}}'
    has_refused = threading.Event()

    def refuse(client: socket.socket, _: bytes) -> None:
        client.sendall(b"HTTP/1.1 413 X\r\nContent-Length: %d\r\n\r\n%s" % (len(refusal), refusal))
        client.shutdown(socket.SHUT_WR)
        client.close()
        has_refused.set()

    def source() -> Iterator[bytes]:
        yield b"x"
        assert has_refused.wait(5)
        for _ in range(100):
            yield b"x" * 100_000

    with serve(play_facts(refuse)) as port:
        client = remote_to(port)
        with pytest.raises(PayloadTooLarge):
            client.post("/x", source())
        assert not client._server._pool._idle


def test_over_tls_with_an_authority_of_ones_own(tmp_path: Path) -> None:
    pair, authority = make_certificate("server", AUTHORITY), tmp_path / "authority.pem"
    authority.write_text(chain_pem(AUTHORITY))
    (tmp_path / "chain.pem").write_text(chain_pem(pair) + key_pem(pair))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "chain.pem")
    body = b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"data":{}}'
    with serve(answering(body), context=context) as port:
        assert Server(f"https://127.0.0.1:{port}", KEY, ca_file=str(authority)).ask("/", {}) == {}
        waits: list[float] = []
        with pytest.raises(ConnectFailed, match="certificate"):
            Server(f"https://127.0.0.1:{port}", KEY, sleep=waits.append).ask("/", {})
        assert not waits
    with serve(trickle(b"HTTP/1.1 200 OK\r\nX: ", b"x"), context=context) as port:
        began = time.monotonic()
        with pytest.raises(CallTimeout):
            Server(f"https://127.0.0.1:{port}", KEY, ca_file=str(authority)).ask("/", {}, timeout_seconds=0.4)
        assert time.monotonic() - began < 1
    (tmp_path / "empty").write_text("no certificate")
    for wrong in (tmp_path / "nothing", tmp_path / "empty"):
        with pytest.raises(InvalidInput, match="EAM_CA_FILE"):
            Server("https://127.0.0.1", KEY, ca_file=str(wrong))


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
    seen = (answer.request.headers, answer.url, answer.request.url, client, client._server)
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
