"""granian before the product's application, on the tests' database and Valkey: for what only a real server shows."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from config import embedded, runtime
from tests.processes import resident_bytes

ROOT = Path(__file__).resolve().parent.parent


class Web:
    """One web process on ``port``."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        self.port, self.process, self._log = port, process, log

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def worker_pid(self) -> int:
        """The process that answers; granian's own only looks after it."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return max((int(child) for child in children), key=resident_bytes)

    @property
    def processor_seconds(self) -> float:
        """What granian and all of its workers have used so far."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return sum(_processor_seconds(pid) for pid in (str(self.process.pid), *children))

    def connect(self, timeout: float = 15) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)


def _processor_seconds(pid: str) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serve(
    folder: Path, *, threads: int = 96, workers: int = 1, application: str = "config.wsgi:application", **environ: str
) -> Iterator[Web]:
    """Run granian on a free port until the block ends; ``environ`` adds to its environment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", str(workers), "--blocking-threads", str(threads), "--no-ws", "--log-level", "error"]
    command.append(application)
    log = folder / f"web-{port}.log"
    process = subprocess.Popen(
        embedded.launch_command(command, death_signal=signal.SIGTERM),
        cwd=ROOT,
        env={**os.environ, **environment(), "PORT": str(port), "WEB_THREADS": str(threads), **environ},
        stderr=log.open("wb"),
    )
    web = Web(port, process, log)
    try:
        _wait_for(web)
        yield web
    finally:
        process.terminate()
        try:
            process.wait(10)
        finally:
            process.kill()


def environment() -> dict[str, str]:
    """What makes the process see this run's database, which pytest-django has made beside the real one."""
    folder = Path(os.environ["VAR_DIR"])
    url = runtime.postgres_url(runtime.socket_dir(folder), runtime.OWNER_ROLE, str(connection.settings_dict["NAME"]))
    return {
        **runtime.environment(folder),
        "DATABASE_URL": url,
        "MIGRATE_DATABASE_URL": url,
        "REDIS_URL": settings.REDIS_URL,
        "EGRESS_ALLOW": "127.0.0.1",
        "DATABASE_POOL_SIZE": "8",
    }


def _wait_for(web: Web, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            with socket.create_connection(("127.0.0.1", web.port), 1):
                return
        except OSError:
            assert time.monotonic() < deadline, web.log[-3000:]
            assert web.process.poll() is None, web.log[-3000:]
            time.sleep(0.05)


@pytest.fixture(scope="session")
def web(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """The session's web process; tests tell themselves apart by connections of their own."""
    with serve(tmp_path_factory.mktemp("web")) as started:
        yield started
