"""Installations of their own for the tests that start, stop and kill things."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from config import runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROC = Path("/proc")
SERVE = """
import sys
from pathlib import Path
from config import embedded, runtime
folder = Path(sys.argv[1])
runtime.prepare(folder)
with embedded.serve(folder, durable=False) as servers:
    print(*(server.process.pid for server in servers), flush=True)
    sys.stdin.read()
"""


_ports = random.Random(os.getpid())  # others than those of the tests beside this process
_FEW = {"WORKER_CONCURRENCY": "1", "SLOW_WORKER_CONCURRENCY": "1"}


class Installation:
    """A VAR_DIR and two neighbouring ports, used by processes that the test starts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = _free_ports()
        self.started: list[subprocess.Popen[str]] = []

    def environ(self, **more: str) -> dict[str, str]:
        """What a newcomer's shell holds: nothing of ours but the folder and the port."""
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        return {**inherited, "VAR_DIR": str(self.folder), "PORT": str(self.port), **_FEW, **more}

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        """Start Python with these arguments in the checkout, its output in a pipe."""
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=runtime.CHECKOUT,
            env=self.environ(**more),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self, *arguments: str, **more: str) -> tuple[int, str]:
        """Run Python to its end; return its status and everything that it printed."""
        process = self.start(*arguments, **more)
        output, _ = process.communicate(timeout=60)
        return process.returncode, output

    def serve(self) -> subprocess.Popen[str]:
        """Start a process that holds both servers; return once they answer."""
        process = self.start("-c", SERVE, str(self.folder))
        assert process.stdout
        assert process.stdout.readline().split()[0].isdigit()
        return process

    def processes(self) -> dict[int, str]:
        """Every living process of this installation with its command line.

        They have its VAR_DIR in their environment, or (a server's title overwrites that) work in it.
        """
        mark = f"VAR_DIR={self.folder}".encode()
        found = {}
        for entry in PROC.glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes()  # empty for a zombie
                is_inside = (entry / "cwd").readlink().is_relative_to(self.folder)
                if words and (is_inside or mark in (entry / "environ").read_bytes().split(b"\0")):
                    found[int(entry.name)] = words.replace(b"\0", b" ").decode(errors="replace")
        found.pop(os.getpid(), None)
        return found

    def wait_until_gone(self, seconds: float = 15) -> None:
        """Fail unless every process of this installation ends by itself in time."""
        wait_for(lambda: not self.processes(), seconds, self.processes)


def wait_for(is_so: Callable[[], bool], seconds: float, explain: Callable[[], object]) -> None:
    """Poll a condition on real processes, which no frozen clock can hurry."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Alive and no zombie: whatever adopts an orphan here may not reap it."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


@pytest.fixture
def installation() -> Iterator[Installation]:
    """An installation in a path with spaces, Unicode and well over a socket's length; swept away at the end."""
    if not PROC.is_dir():
        pytest.skip("these tests find processes through /proc")
    base = Path(tempfile.mkdtemp(prefix="eam-config-"))
    made = Installation(base / ("Ünï cödé 日本 " + "x" * 120) / "var")
    try:
        yield made
    finally:
        for process in made.started:
            process.kill()
            process.communicate()
        for pid in made.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(Exception):
            shutil.rmtree(runtime.socket_dir(made.folder))
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def prepared(installation: Installation, prepared_folder: Path) -> Installation:
    """One that has been started before: its database is there, migrated and seeded, for tests of something else."""
    installation.folder.parent.mkdir(parents=True)
    subprocess.run(["cp", "-a", str(prepared_folder), str(installation.folder)], check=True)
    return installation


@pytest.fixture(scope="session")
def prepared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stopped installation's VAR_DIR to copy, made once for all processes of the tests."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, mark = shared / "prepared" / "var", shared / "prepared" / "is-ready"
    folder.parent.mkdir(exist_ok=True)
    with (shared / "prepared.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not mark.exists():
            made = Installation(folder)
            try:
                for command in (["shell", "-v", "0", "-c", "pass"], ["migrate", "-v", "0"], ["setup"]):
                    status, output = made.run("manage.py", *command)
                    assert status == 0, output
            finally:
                shutil.rmtree(runtime.socket_dir(folder), ignore_errors=True)
            mark.touch()
    return folder


def _free_ports() -> int:
    """Return the first of two neighbouring ports that are free, and stay so while an installation is stopped for a
    while: none of those that the system gives to clients."""
    clients_first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = _ports.randrange(10_000, max(clients_first, 20_000) - 1)
        with contextlib.suppress(OSError), socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", port))
            second.bind(("127.0.0.1", port + 1))
            return port
