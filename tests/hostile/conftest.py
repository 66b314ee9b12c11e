"""The product as a process: its own servers in a folder of its own, and granian before the same application."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from config import embedded, runtime

ROOT = Path(__file__).resolve().parent.parent.parent


class Product:
    """A web process on ``port``; `servers` runs PostgreSQL and Valkey for the life of a block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self.key = runtime.environment(folder)["ADMIN_API_KEY"]
        ours = {"DATABASE_URL", "REDIS_URL", "MIGRATE_DATABASE_URL", "DATABASE_POOL_SIZE"}
        self.environ = {name: value for name, value in os.environ.items() if name not in ours}
        self.environ |= {"VAR_DIR": str(folder), "PORT": str(self.port), "WEB_THREADS": "4"}

    @contextmanager
    def servers(self) -> Iterator[list[embedded.Server]]:
        with embedded.serve(self.folder, durable=False) as servers:
            yield servers

    def manage(self, *arguments: str) -> None:
        subprocess.run([sys.executable, "manage.py", *arguments], cwd=ROOT, env=self.environ, check=True, timeout=60)

    @contextmanager
    def web(self) -> Iterator[None]:
        command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port"]
        command += [
            str(self.port),
            "--workers",
            "1",
            "--blocking-threads",
            self.environ["WEB_THREADS"],
            "--no-ws",
            "--log-level",
            "error",
        ]
        command += ["config.wsgi:application"]
        process = subprocess.Popen(
            embedded.launch_command(command, death_signal=signal.SIGTERM),
            cwd=ROOT,
            env=self.environ,
            stderr=(self.folder / "web.log").open("wb"),
        )
        try:
            self.wait_for("/healthz", None)
            yield
        finally:
            process.terminate()
            process.wait(30)

    @property
    def log(self) -> str:
        return (self.folder / "web.log").read_text()

    def ask(self, path: str, method: str = "GET", body: Any = None, **headers: str) -> tuple[int, str, str]:
        """Return status, content type and body of an answer that comes within 15 s."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        sent = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json", **headers}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), sent)
            answer = connection.getresponse()
            return answer.status, answer.headers.get("Content-Type", ""), answer.read().decode(errors="replace")
        finally:
            connection.close()

    def wait_for(self, path: str, status: int | None, seconds: float = 20) -> None:
        """Ask until the answer has the status, or, for None, until there is an answer."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                got: int | None = self.ask(path)[0]
            except OSError:
                got = None
            if got is not None and status in (None, got):
                return
            assert time.monotonic() < deadline, f"{path} answers {got} and not {status}\n{self.log[-3000:]}"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """Migrated and not running."""
    folder = tmp_path_factory.mktemp("product")
    with ExitStack() as cleanup:
        runtime.prepare(folder)
        cleanup.callback(shutil.rmtree, runtime.socket_dir(folder), ignore_errors=True)
        yield Product(folder)
