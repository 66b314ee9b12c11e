"""Answers whose beginning the provider's rules look at before they are passed on."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest

from tests.connections.gateway.conftest import Connect, proxied
from tests.connections.gateway.test_proxy import error_code
from tests.rest import RestClient
from tests.sockets import read_head, serve

pytestmark = pytest.mark.django_db


def test_head_and_beginning_have_one_time_out_together(connect: Connect, caller: RestClient) -> None:
    may_end = threading.Event()

    def play(client: socket.socket) -> None:
        read_head(client)
        time.sleep(0.4)
        client.sendall(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"a":')
        may_end.wait(5)

    with serve(play) as port:
        row = connect(
            "none",
            base_url=f"http://127.0.0.1:{port}",
            timeout_ms=500,
            retry_config={"max_retries": 0},
            response_rules=[{"action": "fail", "body_contains": "sorry"}],
        )
        began = time.monotonic()
        answer = caller.get(proxied(row, "/x"))
        may_end.set()
        assert error_code(answer) == (504, "CALL_TIMEOUT")
        assert time.monotonic() - began < 0.8


@pytest.mark.parametrize("kind", ["application/x-ndjson; charset=utf-8", "application/stream+json"])
def test_what_comes_in_lines_is_not_waited_for(connect: Connect, caller: RestClient, kind: str) -> None:
    """Nobody knows when the next one comes: a rule has no say, and the first one goes on at once."""
    may_end = threading.Event()

    def play(client: socket.socket) -> None:
        read_head(client)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % kind.encode())
        client.sendall(b'c\r\n{"a":"sorry"\r\n')
        may_end.wait(5)

    with serve(play) as port:
        row = connect(
            "none",
            base_url=f"http://127.0.0.1:{port}",
            timeout_ms=1500,
            retry_config={"max_retries": 0},
            response_rules=[{"action": "fail", "body_contains": "sorry"}],
        )
        answer: Any = caller.get(proxied(row, "/x"))
        assert (answer.status_code, answer.streaming) == (200, True)
        assert next(iter(answer.streaming_content)) == b'{"a":"sorry"'
        may_end.set()
        answer.close()
