"""A PostgreSQL that neither answers nor goes away, behind a TCP proxy that stops forwarding."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from config import runtime
from tests import sockets
from tests.rest import PROVIDERS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hostile.conftest import Product

_BOUND_SECONDS = 15


@contextmanager
def _proxy(target: Path, is_thawed: threading.Event) -> Iterator[int]:
    """Forward to a UNIX socket while ``is_thawed`` is set; yields the port."""

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while piece := source.recv(65536):
                is_thawed.wait()
                sink.sendall(piece)
        except OSError:
            pass  # one of the two has left
        for end in (source, sink):
            end.close()

    def play(client: socket.socket) -> None:
        is_thawed.wait()
        with socket.socket(socket.AF_UNIX) as server:
            server.connect(str(target))
            threading.Thread(target=pump, args=(server, client), daemon=True).start()
            pump(client, server)

    with sockets.serve(play) as port:
        yield port


def test_a_frozen_database_is_told_and_survived(product: Product) -> None:
    is_thawed = threading.Event()
    is_thawed.set()
    folder = runtime.socket_dir(product.folder)
    address = folder / f".s.PGSQL.{runtime.POSTGRES_PORT}"
    with product.servers(), _proxy(address, is_thawed) as port:
        product.manage("migrate", "-v", "0")
        product.environ |= runtime.environment(product.folder)
        product.environ["DATABASE_URL"] = f"postgresql://{runtime.APP_ROLE}@127.0.0.1:{port}/{runtime.DATABASE}"
        product.environ["PORT"] = str(product.port)
        with product.web():
            assert product.ask(PROVIDERS)[0] == 200
            is_thawed.clear()
            began = time.monotonic()
            try:
                # More than one: each may find another of the pool's connections frozen.
                with ThreadPoolExecutor() as pool:
                    answers = list(pool.map(lambda _: product.ask(PROVIDERS), range(3)))
            finally:
                is_thawed.set()
            assert time.monotonic() - began < _BOUND_SECONDS
            for status, content_type, text in answers:
                assert (status, content_type) == (503, "application/json"), text
                assert json.loads(text)["error"]["code"] == "SERVICE_UNAVAILABLE"
            product.wait_for(PROVIDERS, 200)
