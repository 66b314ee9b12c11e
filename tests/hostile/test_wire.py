"""Requests as they come over the wire, through granian: chunked, oversized, broken off."""

from __future__ import annotations

import contextlib
import html
import json
import re
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.factories import provider_body
from tests.rest import PROVIDERS

if TYPE_CHECKING:
    from tests.hostile.conftest import Product


@pytest.fixture(scope="module")
def running(product: Product) -> Iterator[Product]:
    with product.servers():
        product.manage("migrate", "-v", "0")
        with product.web():
            yield product


def _exchange(product: Product, *pieces: bytes, patience_seconds: float = 15) -> bytes:
    """Send pieces, whatever becomes of them, and return all that is answered until the connection falls silent."""
    received = b""
    with socket.create_connection(("127.0.0.1", product.port), timeout=patience_seconds) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
        except OSError:
            pass  # it was refused before it was read
        try:
            while piece := connection.recv(65536):
                received += piece
        except OSError:
            pass
    return received


def _head(product: Product, *headers: str) -> bytes:
    lines = [
        f"POST {PROVIDERS} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {product.key}",
        "Content-Type: application/json",
        "Connection: close",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def test_a_large_body_that_never_comes_is_refused(running: Product) -> None:
    pieces = _head(running, "Content-Length: 10000000"), b'{"name": "'
    answer = _exchange(running, *pieces, patience_seconds=4)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "PAYLOAD_TOO_LARGE"


def test_a_client_that_sends_all_of_a_large_body_gets_the_answer(running: Product) -> None:
    assert running.ask(PROVIDERS, "POST", provider_body(name="x" * 10_000_000))[0] == 413


def test_a_chunked_body_is_refused(running: Product) -> None:
    body = json.dumps(provider_body(slug="chunked")).encode()
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    answer = _exchange(running, _head(running, "Transfer-Encoding: chunked"), chunk)
    assert answer.startswith(b"HTTP/1.1 411 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "LENGTH_REQUIRED"


@pytest.mark.parametrize("length", ["ten", "-1", "1, 2"])
def test_a_malformed_content_length_is_refused(running: Product, length: str) -> None:
    assert _exchange(running, _head(running, f"Content-Length: {length}"), b"{}").startswith(b"HTTP/1.1 400 ")


def test_a_charset_that_nobody_reads_is_refused(running: Product) -> None:
    head = "GET /contact?x=%F0 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: text/plain; charset="
    for charset, status in (("undefined", b"400"), ("utf-8", b"200")):
        assert _exchange(running, f"{head}{charset}\r\n\r\n".encode()).startswith(b"HTTP/1.1 " + status)
    assert "Traceback" not in running.log


def test_a_body_that_breaks_off_harms_nobody(running: Product) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=15) as connection:
        connection.sendall(_head(running, "Content-Length: 1000") + b'{"name": "x')
        time.sleep(0.05)  # lets the request reach the application before its end is cut off
    assert running.ask(PROVIDERS)[0] == 200
    assert "Traceback" not in running.log


def test_bodies_that_never_come_hold_up_nobody(running: Product) -> None:
    """Refused ones: each is answered at once, and all others go on meanwhile."""
    head = f"PUT {PROVIDERS} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        for _ in range(30):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", running.port), timeout=5))
            client.sendall(head + b"{")
            assert client.recv(65536).startswith(b"HTTP/1.1 401 ")
        for _ in range(20):
            assert running.ask(PROVIDERS)[0] == 200
            time.sleep(0.02)


def test_what_is_sent_never_reaches_the_log(running: Product) -> None:
    secret = "a-secret-that-is-nowhere-in-the-log-0001"
    body = provider_body(slug="quiet", api_config={"api_key": {"key": secret}})
    assert running.ask(PROVIDERS, "POST", body)[0] == 201
    assert running.ask(PROVIDERS, "POST", body)[0] == 409
    assert (
        running.ask(PROVIDERS, "POST", {**body, "api_config": {"auth_type": "x", "api_key": {"key": secret}}})[0] == 400
    )
    assert running.ask(f"{PROVIDERS}?limit={secret}")[0] == 400
    assert secret not in running.log
    assert running.key not in running.log


def test_the_documentations_page_gets_all_its_files_from_us(running: Product) -> None:
    status, _, page = running.ask("/api/docs", Accept="text/html")
    assert status == 200
    files = [html.unescape(found) for found in re.findall(r'(?:src|href)="([^"]+)"', page)]
    assert len(files) >= 4
    for file in [*files, "/api/schema"]:
        assert file.startswith("/")
        assert running.ask(file, Accept="*/*")[0] == 200, file


def test_a_connection_goes_on_after_a_body_that_nobody_read(running: Product) -> None:
    """Without the draining about one request in twenty finds the connection closed under it."""
    refused = f"PUT {PROVIDERS} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", running.port), timeout=15) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(200):
            # As HTTP clients do it: the head first, so that the refusal and the body cross.
            connection.sendall(refused)
            connection.sendall(b"x" * 5000)
            answer = b""
            while b"\r\n\r\n" not in answer or b'"details":{}}}' not in answer:
                piece = connection.recv(65536)
                assert piece, "closed without an announcement"
                answer += piece
            assert answer.startswith(b"HTTP/1.1 401 ")


_AUTHORIZATIONS = {
    "not ASCII": b"Authorization: Bearer sk_live_\xc3\xa9\xff\r\n",
    "NUL": b"Authorization: Bearer sk_live_\0x\r\n",
    "a line feed alone": b"Authorization: Bearer a\nX-Injected: b\r\n",
    "huge": b"Authorization: Bearer " + b"x" * 30_000 + b"\r\n",
    "a huge token of parts": b"Authorization: Bearer " + b"e." * 15_000 + b"\r\n",
    "huger than a head may be": b"Authorization: Bearer " + b"x" * 2_000_000 + b"\r\n",
    "two wrong ones": b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n",
    "the right one and a wrong one": b"Authorization: Bearer KEY\r\nAuthorization: Bearer b\r\n",
    "a wrong one and the right one": b"Authorization: Bearer b\r\nAuthorization: Bearer KEY\r\n",
    "the right one twice in one": b"Authorization: Bearer KEY, Bearer KEY\r\n",
    "folded": b"Authorization: Bearer\r\n KEY\r\n",
    "no value": b"Authorization:\r\n",
    "underscores": b"HTTP_AUTHORIZATION: Bearer KEY\r\nAuthorization_: Bearer KEY\r\n",
}


def test_a_key_beyond_ascii_is_told_what_may_be_wrong(running: Product) -> None:
    """The server hands on such a header as an empty one."""
    for header, told in (
        (_AUTHORIZATIONS["not ASCII"], b"beyond ASCII"),
        (b"", b"No Authorization header provided."),
    ):
        head = b"GET /api/external/auth/me HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        answer = _exchange(running, head + header + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert told in answer


@pytest.mark.parametrize("path", [PROVIDERS, "/api/external/auth/me", "/exsvc/api/v1/services"])
@pytest.mark.parametrize("headers", _AUTHORIZATIONS.values(), ids=_AUTHORIZATIONS.keys())
def test_hostile_authorization_headers_are_refused(running: Product, path: str, headers: bytes) -> None:
    """Never let in, never an error of ours; what the server itself refuses ends the connection or is a 4xx."""
    sent = headers.replace(b"KEY", running.key.encode())
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n".encode() + sent + b"\r\n"
    answer = _exchange(running, request)
    if answer:
        assert re.match(rb"HTTP/1\.[01] 4\d\d ", answer), answer[:200]
    assert running.key.encode() not in answer
