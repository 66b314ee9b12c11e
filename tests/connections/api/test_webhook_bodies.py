"""Senders who never finish: they have a part of the threads and no more."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.web import Web, serve

THREADS = 24
UNFINISHED = (
    b"POST /api/webhooks/nobody HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\nX-Forwarded-For: %s\r\n\r\n{"
)
SENDERS = ("10.0.0.1", "10.0.0.2", "10.0.0.3", "2001:db8::1")


def ask(web: Web, method: str, path: str, body: bytes | None = None, sender: str = "10.0.0.9") -> int:
    connection = web.connect(timeout=8)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json", "X-Forwarded-For": sender})
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.django_db(transaction=True)
def test_half_sent_webhooks_stop_nobody(tmp_path: Path) -> None:
    with serve(tmp_path, threads=THREADS, TRUST_PROXY_HEADERS="true") as web, ExitStack() as stack:
        assert ask(web, "POST", "/api/webhooks/nobody", b"{}") == 400
        # One sender has a quarter of the places, however often it asks; its network of IPv6 is one as well.
        for number in range(4):
            begin(web, stack, f"2001:db8::{number:x}")
        wait_for(web, 503, "2001:db8::ffff")
        for _ in range(3):
            assert ask(web, "POST", "/api/webhooks/nobody", b"{}") == 400
        for number in range(2 * len(SENDERS)):
            begin(web, stack, SENDERS[number % len(SENDERS)])
        # Those that come too many are turned away, one after the other.
        wait_for(web, 503)
        assert ask(web, "GET", "/admin/login/") == 200
        stack.close()
        wait_for(web, 400)
        assert "Service Unavailable" not in web.log, "anybody could fill it"


def begin(web: Web, stack: ExitStack, address: str) -> None:
    sender = stack.enter_context(socket.create_connection(("127.0.0.1", web.port), 5))
    sender.sendall(UNFINISHED % address.encode())


def wait_for(web: Web, status: int, sender: str = "10.0.0.9") -> None:
    deadline = time.monotonic() + 12
    while ask(web, "POST", "/api/webhooks/nobody", b"{}", sender) != status:
        assert time.monotonic() < deadline
