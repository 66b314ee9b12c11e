"""A token endpoint in the test's own process: its refresh tokens rotate, and an old one revokes the whole family."""

from __future__ import annotations

import itertools
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import parse_qsl

from tests.sockets import serve

_numbers = itertools.count(1)


class TokenServer:
    """``play``, if set, is called with the socket of the next request instead of answering it."""

    def __init__(self) -> None:
        self.port = 0
        self.life: int | None = 3600
        self.rotates = True
        self.requests: list[dict[str, str]] = []
        self.used: set[str] = set()
        self.revoked: set[str] = set()
        self.delay: Callable[[], None] = lambda: None
        self.answers: list[bytes | Callable[[socket.socket], None] | None] = []
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def new_refresh_token(self) -> str:
        return f"rt-family{next(_numbers)}-0"

    def handle(self, client: socket.socket) -> None:
        while (request := _read_request(client)) is not None:
            fields = dict(parse_qsl(request))
            with self._lock:
                self.requests.append(fields)
                planned = self.answers.pop(0) if self.answers else None
            if callable(planned):
                planned(client)
                return
            self.delay()
            client.sendall(planned if planned is not None else self.answer(fields))

    def answer(self, fields: dict[str, str]) -> bytes:
        number = next(_numbers)
        tokens: dict[str, object] = {"access_token": f"at-{number}", "token_type": "Bearer"}
        if self.life is not None:
            tokens["expires_in"] = self.life
        if fields.get("grant_type") == "refresh_token":
            old = fields.get("refresh_token", "")
            family = old.split("-")[1] if old.count("-") == 2 else ""
            with self._lock:
                if not family or family in self.revoked or old in self.used:
                    self.revoked.add(family)
                    return http(400, {"error": "invalid_grant", "error_description": "That token was used before."})
                if self.rotates:
                    self.used.add(old)
                    tokens["refresh_token"] = f"rt-{family}-{number}"
        return http(200, tokens)


def http(status: int, body: object, *headers: str) -> bytes:
    """An answer with a JSON body, or with the bytes given."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Any", "Content-Type: application/json", f"Content-Length: {len(content)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


@contextmanager
def token_server() -> Iterator[TokenServer]:
    server = TokenServer()
    with serve(server.handle) as port:
        server.port = port
        yield server


def hang_up(client: socket.socket) -> None:
    """Read the request and close without an answer."""
    client.close()


def _read_request(client: socket.socket) -> str | None:
    received = b""
    while b"\r\n\r\n" not in received:
        piece = client.recv(65536)
        if not piece:
            return None
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
    )
    while len(body) < length:
        body += client.recv(65536)
    return body.decode()
