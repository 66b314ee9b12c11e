"""A worker killed, and the database cut off, at every step of a renewal: nothing is lost without being told."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection as database
from django.utils import timezone

from config import runtime
from config.celery import app
from connections.models import ConnectionStatus, ExternalApiConnection, Grant, GrantState
from connections.oauth import faults
from connections.services import refresh_token
from tests.grants import grant_of, kinds, make_granted, secrets_of, stored
from tests.token_server import TokenServer, token_server

pytestmark = pytest.mark.django_db(transaction=True)


class Gate:
    """The database's UNIX socket once more, in a folder of its own, through a door that can be shut."""

    def __init__(self, folder: Path, target: str) -> None:
        self.folder, self._target = folder, target
        self._pairs: list[socket.socket] = []
        self._is_open = True
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / Path(target).name))
        self._listener.listen(50)
        threading.Thread(target=self._accept, daemon=True).start()

    def shut(self) -> None:
        self._is_open = False
        for end in self._pairs:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def open(self) -> None:
        self._is_open = True

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if not self._is_open:
                near.close()
                continue
            far = socket.socket(socket.AF_UNIX)
            far.connect(self._target)
            self._pairs += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(65536):
                sink.sendall(piece)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


LOOP = """
import os, sys
import django
django.setup()
import connections.tasks
from connections.oauth.sweep import sweep
from django.db import Error, connection
from external_apis.data_keys import data_keys

def work():
    data_keys().forget()
    try:
        sweep()
        said = "swept"
    except Error as error:
        said = type(error).__name__
    connection.close()
    return said

for line in sys.stdin:
    if line.strip() == "stay":
        print(work(), flush=True)
        continue
    child = os.fork()
    if not child:
        print(work(), flush=True)
        os._exit(0)
    print("ended", os.waitpid(child, 0)[1], flush=True)
"""


class Worker:
    """A process that sweeps when told to, itself or in a child of its own, with the database behind a gate."""

    def __init__(self, folder: Path, gate: Gate) -> None:
        self.gate, self.fault, self.spool, self.folder = gate, folder / "fault", folder / "spool", folder
        at = database.settings_dict
        self.environ = {**os.environ, **runtime.environment(Path(django_settings.VAR_DIR))}
        self.environ |= {
            "DATABASE_URL": f"postgresql://{at['USER']}@/{at['NAME']}?host={gate.folder}&port={runtime.POSTGRES_PORT}",
            "EGRESS_ALLOW": "127.0.0.1",
            "SPOOL_DIR": str(self.spool),
            "FAULT_FILE": str(self.fault),
            "TESTING_FAULTS": "yes",
        }
        self.log = folder / "worker.log"
        self.process = self.start("-c", LOOP, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[Any]:
        with self.log.open("ab") as log:
            options = {"stdout": log, **options}
            return subprocess.Popen(
                [sys.executable, *arguments], cwd=runtime.CHECKOUT, env=self.environ, stderr=log, **options
            )

    def tell(self, how: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{how}\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout
        assert select.select([self.process.stdout], [], [], 20)[0], self.log.read_text()[-3000:]
        return str(self.process.stdout.readline()).strip()

    def sweep(self) -> str:
        self.tell("stay")
        return self.hear()

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory, django_db_setup: None) -> Iterator[Worker]:
    if "TEST_DATABASE_URL" in os.environ:
        pytest.skip("the gate stands before the embedded PostgreSQL")
    sockets = runtime.socket_dir(Path(django_settings.VAR_DIR))
    (sockets / "gate").mkdir(mode=0o700)
    gate = Gate(sockets / "gate", str(sockets / f".s.PGSQL.{runtime.POSTGRES_PORT}"))
    started = Worker(tmp_path_factory.mktemp("crash"), gate)
    yield started
    started.stop()


@pytest.fixture
def server(settings: Any, worker: Worker) -> Iterator[TokenServer]:
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    settings.SPOOL_DIR = str(worker.spool)
    worker.fault.unlink(missing_ok=True)
    worker.gate.open()
    with token_server() as started:
        yield started


def wait_for(is_so: Callable[[], bool], worker: Worker, seconds: float = 12) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, worker.log.read_text()[-4000:]
        time.sleep(0.02)


def is_honest(row: ExternalApiConnection, server: TokenServer) -> bool:
    """An active connection holds the one refresh token that the provider would take."""
    token = secrets_of(row)["refresh_token"]
    is_dead = token in server.used or token.split("-")[1] in server.revoked
    return not (is_dead and stored(row).status == ConnectionStatus.ACTIVE and grant_of(row).state == GrantState.GOOD)


def let_lease_run_out(row: ExternalApiConnection) -> None:
    Grant.objects.filter(pk=row.pk, leased_until__isnull=False).update(
        leased_until=timezone.now() - timedelta(seconds=1), due_at=timezone.now()
    )


# Before the answer nothing is known; in memory alone it is lost; from the spool on it is safe.
ENDS = {
    "claimed": ["in_doubt", "restored"],
    "before_send": ["in_doubt", "restored"],
    "after_answer": ["in_doubt", "expired"],
    "spooled": ["refreshed"],
    "before_commit": ["refreshed"],
    "after_commit": ["refreshed"],
    "settled": ["refreshed"],
}


def test_every_point_is_tried() -> None:
    assert set(ENDS) == set(faults.POINTS)


@pytest.mark.parametrize("point", ENDS)
def test_a_worker_is_killed(point: str, worker: Worker, server: TokenServer) -> None:
    row = make_granted(server)
    worker.fault.write_text(f"kill {point}")
    worker.tell("fork")
    assert worker.hear() == f"ended {int(signal.SIGKILL)}"
    let_lease_run_out(row)
    assert worker.sweep() == "swept"
    assert kinds(row) == ENDS[point]
    assert is_honest(row, server)
    assert (stored(row).status == ConnectionStatus.EXPIRED) is (ENDS[point][-1] == "expired")
    assert list(worker.spool.glob("*")) == [] or all(not path.stat().st_size for path in worker.spool.glob("*"))
    if stored(row).status == ConnectionStatus.ACTIVE:
        refresh_token(row.pk)  # the token that is stored is the provider's latest
        assert not server.revoked


@pytest.mark.parametrize("point", ["claimed", "before_send", "after_answer", "spooled", "before_commit"])
def test_the_database_is_cut_off(point: str, worker: Worker, server: TokenServer) -> None:
    """A worker that lives has the answer in its spool, whatever becomes of the database meanwhile."""
    row = make_granted(server)
    worker.fault.write_text(f"wait {point}")
    worker.tell("stay")
    wait_for(lambda: worker.fault.exists() and worker.fault.read_text() == "waiting", worker)
    worker.gate.shut()
    worker.fault.unlink()
    assert worker.hear() == "OperationalError"
    assert worker.sweep() == "OperationalError"
    worker.gate.open()
    let_lease_run_out(row)
    assert worker.sweep() == "swept"
    assert kinds(row) == (["in_doubt", "restored"] if point == "claimed" else ["refreshed"])
    assert is_honest(row, server)
    refresh_token(row.pk)
    assert not server.revoked


def test_celerys_worker_is_killed_and_the_next_one_recovers_at_its_start(worker: Worker, server: TokenServer) -> None:
    row = make_granted(server)
    command = "celery --quiet -A config worker --concurrency 1 --without-gossip --without-mingle --without-heartbeat"
    worker.fault.write_text("wait spooled")
    first = worker.start("-m", *command.split(), start_new_session=True)
    try:
        app.send_task("connections.refresh_due_tokens")
        wait_for(lambda: worker.fault.exists() and worker.fault.read_text() == "waiting", worker)
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    worker.fault.unlink()
    assert kinds(row) == []
    second = worker.start("-m", *command.split(), start_new_session=True)
    try:
        wait_for(lambda: kinds(row) == ["refreshed"], worker)
    finally:
        os.killpg(second.pid, signal.SIGKILL)
        second.wait()
    assert is_honest(row, server)
    assert len(server.requests) == 1
