"""A load of GET requests over kept connections, from a few threads, each waiting for its answer before it goes on."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from config import embedded

ROOT = Path(__file__).resolve().parent.parent.parent
THREADS = 4


@contextmanager
def granian(application: str, environ: Mapping[str, str], folder: Path) -> Iterator[int]:
    """Serve an application in one worker with 16 threads; yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--blocking-threads", "16", "--no-ws", "--log-level", "error", application]
    errors = folder / f"{application.partition('.')[0]}.log"
    with errors.open("wb") as log:
        process = subprocess.Popen(
            embedded.launch_command(command, death_signal=signal.SIGTERM),
            cwd=ROOT,
            env={**os.environ, **environ},
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 30
        while not _is_open(port):
            is_coming = process.poll() is None and time.monotonic() < deadline
            assert is_coming, f"{application} does not listen: {errors.read_text()[-2000:]}"
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(30)


@dataclass(frozen=True)
class Load:
    """How many requests a second were answered, and how long each took in ms."""

    per_second: float
    took_ms: Sequence[float]

    def percentile_ms(self, percent: float) -> float:
        ordered = sorted(self.took_ms)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def run(
    port: int,
    path: str,
    authorizations: Sequence[str],
    seconds: float,
    threads: int = THREADS,
    *,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Load:
    """Ask for a path until the time is up, with one authorization after the other. Every answer has to be a 200."""
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    requests = [
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {authorization}\r\n{more}\r\n".encode()
        for authorization in authorizations
    ]
    took: list[float] = []
    problems: list[str] = []
    until = time.perf_counter() + seconds

    def ask(first: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for request in itertools.islice(itertools.cycle(requests), first, None):
                began = time.perf_counter()
                if began >= until:
                    return
                connection.sendall(request)
                answer = _read(connection)
                took.append((time.perf_counter() - began) * 1000)
                if not answer.startswith(b"HTTP/1.1 200"):
                    problems.append(answer[:500].decode(errors="replace"))
                    return

    workers = [threading.Thread(target=ask, args=(number * len(requests) // threads,)) for number in range(threads)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not problems, problems[0]
    return Load(len(took) / (time.perf_counter() - began), took)


def _read(connection: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        received += _receive(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
    while len(body) < length:
        body += _receive(connection)
    return head


def _receive(connection: socket.socket) -> bytes:
    piece = connection.recv(262_144)
    assert piece, "the server closed the connection"
    return piece


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
