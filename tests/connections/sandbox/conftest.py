"""A plain client for the sandbox, without anything of the product in it."""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from tests.sandbox import Sandbox

_numbers = itertools.count(1)


@dataclass
class Client:
    """Calls paths of one sandbox, follows no redirects, uses no proxy."""

    sandbox: Sandbox
    session: requests.Session

    def __call__(self, method: str, path: str, **options: Any) -> requests.Response:
        return self.session.request(method, self.sandbox.url + path, timeout=20, allow_redirects=False, **options)

    def get(self, path: str, **options: Any) -> requests.Response:
        return self("GET", path, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        return self("POST", path, **options)


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[Client]:
    with requests.Session() as session:
        session.trust_env = False
        yield Client(sandbox, session)


@pytest.fixture
def key() -> str:
    """A key no other test uses."""
    return f"key-{next(_numbers)}"


def exchange(port: int, data: bytes, *, has_more: bool = False) -> bytes:
    """Send bytes as they are and read until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(data)
        if not has_more:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := connection.recv(65_536):
            received += chunk
    return received


def read_error(answer: bytes) -> tuple[int, str]:
    """Status and error code of the first answer in these bytes."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]["code"]
