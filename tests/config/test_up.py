"""``manage.py up`` as a newcomer meets it: it starts, says where, stops in order, and survives every kind of kill."""

from __future__ import annotations

import fcntl
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
import redis

from config import embedded, processes, runtime
from tests.config.conftest import wait_for
from tests.config.seed_examples import run_examples

if TYPE_CHECKING:
    from tests.config.conftest import Installation

MARKS = {
    "supervisor": "manage.py up",
    "web": "-m granian",
    "worker": "--queues celery",
    "slow worker": "--queues slow",
    "beat": "config beat",
    "sandbox": "-m connections.sandbox",
    "postgres": "bin/postgres -D",
    "valkey": "valkey-server",
}


def _up(installation: Installation, *options: str, **more: str) -> subprocess.Popen[str]:
    """Start the product and return once it announced itself and the worker takes tasks."""
    process = installation.start("manage.py", "up", *options, **more)
    _read_until(process, "Stop with Ctrl-C", "celery@")
    return process


def _read_until(process: subprocess.Popen[str], *texts: str) -> str:
    assert process.stdout
    seen = ""
    while not all(text in seen for text in texts):
        line = process.stdout.readline()
        assert line, seen
        seen += line
    return seen


def _pid_of(installation: Installation, part: str) -> int:
    found = [pid for pid, words in installation.processes().items() if MARKS[part] in words]
    assert found, (part, installation.processes())
    return min(found)


def _status(installation: Installation, path: str = "/healthz") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", installation.port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_first_start_serves_and_ctrl_c_stops_everything_in_order(installation: Installation) -> None:
    began = time.monotonic()
    process = installation.start("manage.py", "up")
    output = _read_until(process, "Stop with Ctrl-C", "celery@")
    assert time.monotonic() - began < 30  # the promise is 10 s on a machine that does nothing else
    assert f"http://127.0.0.1:{installation.port}/admin/" in output
    assert "first-login.env" in output
    secrets = {name: value for name, value in runtime.environment(installation.folder).items() if name != "PORT"}
    assert not any(secret in output for secret in secrets.values())
    assert _status(installation, "/admin/login/") == 200
    for part in MARKS:
        _pid_of(installation, part)
    _assert_only_loopback_listens(installation)
    _assert_tables_are_the_owners(installation)
    _assert_worker_and_beat_give_signs_of_life(installation)
    _assert_the_seeds_clients_work(installation, secrets["ADMIN_API_KEY"])
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=40)
    assert process.returncode == 0, rest
    assert "Stopped (SIGINT)" in rest
    assert "Warm shutdown" in rest
    assert not installation.processes()
    assert not (installation.folder / "postgres" / "postmaster.pid").exists(), "PostgreSQL was not shut down cleanly"


def _assert_only_loopback_listens(installation: Installation) -> None:
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ports = (installation.port, installation.port + 1)
    ours = [row[1] for row in rows if row[3] == "0A" and int(row[1][-4:], 16) in ports]
    assert len(ours) == 2
    assert all(address.startswith("0100007F:") for address in ours)


def _assert_tables_are_the_owners(installation: Installation) -> None:
    with psycopg.connect(runtime.environment(installation.folder)["DATABASE_URL"]) as connection:
        owners = connection.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert owners == [(runtime.OWNER_ROLE,)]


def _assert_the_seeds_clients_work(installation: Installation, key: str) -> None:
    base = f"http://127.0.0.1:{installation.port}/api/external"
    with psycopg.connect(runtime.environment(installation.folder)["DATABASE_URL"]) as connection:
        ((user_id,),) = connection.execute("SELECT id FROM external_apis_account").fetchall()
    in_javascript, in_python = run_examples(base, key, user_id)
    answers = [*in_javascript.values(), *in_python.values()]
    assert [answer["success"] for answer in answers] == [True] * 9, answers
    assert in_javascript["tokens"]["data"]["tokens"] == 1_000_000
    assert in_javascript["model"]["data"]["supportsMedia"] is True
    assert [user["plan"] for user in in_python["users"]["data"]] == ["professional"]


def _assert_worker_and_beat_give_signs_of_life(installation: Installation) -> None:
    deadline = time.monotonic() + 30
    while _status(installation, "/api/external/system/health") != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_kill_9_of_any_or_all_leaves_nothing_and_loses_nothing(prepared: Installation) -> None:
    # Beat and sandbox end like any other program; masters killed with the supervisor leave workers to themselves.
    for round_number, part in enumerate(["supervisor", "web", "worker", "postgres", "valkey", "masters", "all"]):
        process = _up(prepared)
        store = redis.Redis.from_url(runtime.environment(prepared.folder)["REDIS_URL"])
        assert store.incr("rounds") == round_number + 1, part
        store.close()
        for pid in _victims(prepared, part):
            with suppress(ProcessLookupError):  # one that ended with another victim
                os.kill(pid, signal.SIGKILL)
        output, _ = process.communicate(timeout=40)
        assert process.returncode, part
        if part not in ("supervisor", "masters", "all"):
            assert re.search(r"\(process \d+\) .*, so everything was stopped\.", output), (part, output)
        prepared.wait_until_gone()


def test_a_killed_web_worker_is_replaced_and_the_other_one_finishes_its_calls(prepared: Installation) -> None:
    process = _up(prepared, WEB_WORKERS="2")
    key = runtime.environment(prepared.folder)["ADMIN_API_KEY"]
    path = "/api/external/proxy/conn_sandbox_bearer/slow?seconds=2"
    under_way = http.client.HTTPConnection("127.0.0.1", prepared.port, timeout=30)
    under_way.request("GET", path, headers={"Authorization": f"Bearer {key}"})
    assert under_way.sock is not None
    client_port = under_way.sock.getsockname()[1]
    wait_for(lambda: _worker_of(prepared, client_port) is not None, 5, prepared.processes)
    serving = _worker_of(prepared, client_port)
    (other,) = set(_web_workers(prepared)) - {serving}
    os.kill(other, signal.SIGKILL)
    assert under_way.getresponse().status == 200
    under_way.close()
    assert process.poll() is None
    wait_for(lambda: len(set(_web_workers(prepared)) - {other}) == 2, 15, prepared.processes)
    (young,) = set(_web_workers(prepared)) - {serving, other}
    wait_for(lambda: _is_answered_by(prepared, young), 30, prepared.processes)
    assert process.poll() is None


@pytest.mark.parametrize("told", ["Dockerfile", "README.md"])
def test_it_is_replaced_in_production_too(told: str) -> None:
    text = (runtime.CHECKOUT / told).read_text()
    assert "--respawn-failed-workers" in text.partition("--interface")[2].partition("config.wsgi")[0]


def _web_workers(installation: Installation) -> list[int]:
    """The processes that serve: children of granian's own, without what multiprocessing puts beside them."""
    master = _pid_of(installation, "web")
    children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    running = installation.processes()
    return [int(child) for child in children if "resource_tracker" not in running.get(int(child), "resource_tracker")]


def _worker_of(installation: Installation, client_port: int) -> int | None:
    """The worker that has accepted the connection from this port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ports = (installation.port, client_port)
    inodes = {row[9] for row in rows if (int(row[1][-4:], 16), int(row[2][-4:], 16)) == ports}
    for pid in _web_workers(installation):
        held = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()]
        if any(f"socket:[{inode}]" in held for inode in inodes):
            return pid
    return None


def _is_answered_by(installation: Installation, pid: int) -> bool:
    """Connections go to either worker, as the kernel likes."""
    connection = http.client.HTTPConnection("127.0.0.1", installation.port, timeout=10)
    try:
        connection.request("GET", "/admin/login/")
        assert connection.sock is not None
        port = connection.sock.getsockname()[1]
        assert connection.getresponse().status == 200
        return _worker_of(installation, port) == pid
    finally:
        connection.close()


def _victims(installation: Installation, part: str) -> list[int]:
    match part:
        case "all":
            return list(installation.processes())
        case "masters":
            return [_pid_of(installation, name) for name in ("supervisor", "web", "worker")]
        case _:
            return [_pid_of(installation, part)]


def test_a_closed_terminal_stops_it_too(prepared: Installation) -> None:
    leader, terminal = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "manage.py", "up"],
        cwd=runtime.CHECKOUT,
        env=prepared.environ(),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        preexec_fn=_take_terminal,  # noqa: PLW1509 - what a terminal does to its shell
    )
    os.close(terminal)
    seen = b""
    while b"Stop with Ctrl-C" not in seen:
        seen += os.read(leader, 4096)
    os.close(leader)
    process.wait(40)
    prepared.wait_until_gone(5)


def test_a_terminal_whose_session_is_led_by_make_stops_it_too(prepared: Installation) -> None:
    """The kernel's SIGHUP goes to the leader of the session alone, and make waits for its child."""
    leader, terminal = os.openpty()
    starter = subprocess.Popen(
        [sys.executable, "-c", "import subprocess, sys; subprocess.run([sys.executable, 'manage.py', 'up'])"],
        cwd=runtime.CHECKOUT,
        env=prepared.environ(),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        preexec_fn=_take_terminal_and_ignore_its_end,  # noqa: PLW1509 - as make does
    )
    os.close(terminal)
    seen = b""
    while b"Stop with Ctrl-C" not in seen:
        seen += os.read(leader, 4096)
    os.close(leader)
    starter.wait(40)
    prepared.wait_until_gone(5)


def _take_terminal_and_ignore_its_end() -> None:
    _take_terminal()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _take_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_make_killed_stops_what_it_started(prepared: Installation) -> None:
    starter = prepared.start(
        "-c",
        "import subprocess, sys; subprocess.run([sys.executable, 'manage.py', 'up', '--stop-with-parent'])",
    )
    _read_until(starter, "Stop with Ctrl-C")
    starter.kill()
    output, _ = starter.communicate(timeout=40)
    assert "Stopped (its parent ended)" in output
    prepared.wait_until_gone()


@pytest.mark.parametrize("offset", [0, 1], ids=["web", "sandbox"])
def test_a_busy_port_is_one_line_with_its_holder_and_a_way_out(installation: Installation, offset: int) -> None:
    with socket.create_server(("127.0.0.1", installation.port + offset)):
        status, output = installation.run("manage.py", "up")
    assert status
    line = output.strip().splitlines()[-1]
    assert re.search(rf"Port {installation.port + offset} is taken by process {os.getpid()} \(.*python.*\)", line)
    assert re.search(r"make run PORT=\d+$", line)
    assert "Traceback" not in output
    installation.wait_until_gone(5)


def test_a_second_start_in_the_same_folder_is_one_line(installation: Installation) -> None:
    owner = installation.serve()
    status, output = installation.run("manage.py", "up")
    assert status
    assert output.count("\n") == 1, output
    assert f"is in use by process {owner.pid} (" in output


def test_a_database_sealed_under_other_keys_is_refused_and_nothing_is_written(prepared: Installation) -> None:
    before = _row_counts(prepared)
    mine = runtime.environment(prepared.folder)["ENCRYPTION_KEYS"]
    key_id = mine.partition(":")[0]
    refusals = []
    for name in ("other", key_id):  # another id, and another key under that id
        foreign = f"{name}:{'A' * 43}="
        refusals.append(prepared.run("manage.py", "up", ENCRYPTION_KEYS=foreign))
        # However else a process is started: by hand, by a container, by an init system.
        servers = prepared.serve()
        commands = (
            ("manage.py", "setup"),
            ("-c", "import config.wsgi"),
            ("-m", "celery", "-A", "config", "worker", "--concurrency", "1"),
        )
        refusals += [prepared.run(*command, ENCRYPTION_KEYS=foreign) for command in commands]
        servers.communicate(timeout=30)
    for status, output in refusals:
        assert status, output
        assert key_id in output
        assert mine.partition(":")[2] not in output
        assert "Traceback" not in output
    assert _row_counts(prepared) == before


def _row_counts(installation: Installation) -> str:
    count = (
        "from django.apps import apps; "
        "print({m._meta.db_table: m._base_manager.count() for m in apps.get_models(include_auto_created=True)})"
    )
    status, output = installation.run("manage.py", "shell", "-v", "0", "-c", count)
    assert status == 0, output
    return output


def test_servers_of_ones_own_are_used_without_embedded_ones_or_a_sandbox(installation: Installation) -> None:
    installation.serve()
    given = runtime.environment(installation.folder)
    elsewhere = installation.folder.parent / "elsewhere"
    process = _up(installation, **given, VAR_DIR=str(elsewhere))
    assert _status(installation, "/admin/login/") == 200
    assert processes.is_free(installation.port + 1)
    assert not (elsewhere / "postgres").exists()
    assert not (elsewhere / "secrets.env").exists()
    process.terminate()
    output, _ = process.communicate(timeout=40)
    assert process.returncode == 0, output
    assert embedded.is_answering(installation.folder)


@pytest.mark.parametrize("missing", ["REDIS_URL", "SECRET_KEY", "ENCRYPTION_KEYS", "JWT_SECRET"])
def test_with_a_database_of_its_own_a_missing_variable_is_named(installation: Installation, missing: str) -> None:
    given = {
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "REDIS_URL": "redis://127.0.0.1:1",
        "SECRET_KEY": "s" * 60,
        "ENCRYPTION_KEYS": "k:" + "A" * 43 + "=",
        "JWT_SECRET": "j" * 60,
    }
    del given[missing]
    status, output = installation.run("manage.py", "up", **given)
    assert status
    assert missing in output.strip().splitlines()[-1]
    assert "Traceback" not in output
    assert not installation.folder.exists()
