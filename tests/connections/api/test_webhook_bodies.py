"""Senders who never finish: they have a part of the threads and no more."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.web import Web, serve

THREADS = 12
UNFINISHED = b"POST /api/webhooks/nobody HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{"


def ask(web: Web, method: str, path: str, body: bytes | None = None) -> int:
    connection = web.connect(timeout=8)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.django_db(transaction=True)
def test_half_sent_webhooks_stop_nobody(tmp_path: Path) -> None:
    with serve(tmp_path, threads=THREADS) as web, ExitStack() as stack:
        assert ask(web, "POST", "/api/webhooks/nobody", b"{}") == 400
        for _ in range(2 * THREADS):
            sender = stack.enter_context(socket.create_connection(("127.0.0.1", web.port), 5))
            sender.sendall(UNFINISHED)
        # Those that come too many are turned away, one after the other.
        deadline = time.monotonic() + 12
        while ask(web, "POST", "/api/webhooks/nobody", b"{}") != 503:
            assert time.monotonic() < deadline
        assert ask(web, "GET", "/admin/login/") == 200
        stack.close()
        deadline = time.monotonic() + 8
        while ask(web, "POST", "/api/webhooks/nobody", b"{}") != 400:
            assert time.monotonic() < deadline
