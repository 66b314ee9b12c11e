"""Real servers: who may use them, how they end, and what is left for the next start."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
import redis
from django.core.management.base import CommandError

from config import embedded, runtime
from tests.config.conftest import PROC, wait_for

if TYPE_CHECKING:
    from tests.config.conftest import Installation

QUERY = "from django.db import connection as c; c.ensure_connection(); print('pid', c.connection.info.backend_pid)"
UP = f"{QUERY}; print('up', flush=True); input()"


def _valkey(installation: Installation) -> redis.Redis:
    return redis.Redis.from_url(runtime.environment(installation.folder)["REDIS_URL"])


def test_a_long_unicode_path_serves_both_and_keeps_roles_apart(installation: Installation) -> None:
    runtime.prepare(installation.folder)
    with embedded.serve(installation.folder, durable=False) as servers:
        urls = runtime.environment(installation.folder)
        with psycopg.connect(urls["MIGRATE_DATABASE_URL"]) as owner:
            owner.execute("CREATE TABLE things (id bigserial PRIMARY KEY, name text)")
        with psycopg.connect(urls["DATABASE_URL"]) as app:
            app.execute("INSERT INTO things (name) VALUES ('ü')")
            rights = "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls FROM pg_roles WHERE rolname=user"
            assert app.execute(rights).fetchone() == (False,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                app.execute("DROP TABLE things")
        assert _valkey(installation).config_get("appendonly") == {"appendonly": "yes"}
        if os.geteuid() == 0:
            for server in servers:
                assert Path(PROC / str(server.process.pid)).stat().st_uid == 65534
        for server in servers:
            assert not _tcp_sockets(server.process.pid)
    assert [server.process.poll() for server in servers] == [0, 0]


def _tcp_sockets(pid: int) -> set[str]:
    rows = [line.split() for name in ("tcp", "tcp6") for line in (PROC / "net" / name).read_text().splitlines()[1:]]
    listening = {f"socket:[{row[9]}]" for row in rows if row[3] == "0A"}
    return listening & {str(link.readlink()) for link in (PROC / str(pid) / "fd").iterdir()}


def test_servers_end_with_their_killed_owner_and_the_data_is_there_again(installation: Installation) -> None:
    owner = installation.serve()
    with psycopg.connect(runtime.environment(installation.folder)["MIGRATE_DATABASE_URL"]) as connection:
        connection.execute("CREATE TABLE kept (name text)")
    _valkey(installation).set("kept", "yes")
    owner.kill()
    owner.wait()
    installation.wait_until_gone()
    with embedded.serve(installation.folder, durable=False):
        assert _valkey(installation).get("kept") == b"yes"
        with psycopg.connect(runtime.environment(installation.folder)["DATABASE_URL"]) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_everything_killed_at_once_is_recovered_under_a_reused_process_id(installation: Installation) -> None:
    installation.serve()
    _valkey(installation).set("kept", "yes")
    for pid in installation.processes():
        with suppress(ProcessLookupError):  # it has ended with the one before
            os.kill(pid, signal.SIGKILL)
    installation.wait_until_gone()
    sockets = runtime.socket_dir(installation.folder)
    for stale in (installation.folder / "postgres" / "postmaster.pid", sockets / ".s.PGSQL.5432.lock"):
        lines = stale.read_text().splitlines()
        stale.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")  # alive, and no postmaster
    with embedded.serve(installation.folder, durable=False):
        assert _valkey(installation).get("kept") == b"yes"


def test_a_folder_in_use_is_one_line_that_names_the_process(installation: Installation) -> None:
    owner = installation.serve()
    with pytest.raises(CommandError) as refusal, embedded.serve(installation.folder):
        pass
    line = str(refusal.value)
    assert "\n" not in line
    assert f"process {owner.pid} (" in line
    assert "make run VAR_DIR=" in line


def test_a_command_attaches_to_running_servers_and_leaves_them_running(installation: Installation) -> None:
    owner = installation.serve()
    status, output = installation.run("manage.py", "shell", "-v", "0", "-c", QUERY)
    assert status == 0, output
    assert "pid " in output
    assert owner.poll() is None
    assert embedded.is_answering(installation.folder)


def test_a_command_alone_brings_its_own_servers_and_takes_them_along(installation: Installation) -> None:
    status, output = installation.run("manage.py", "shell", "-v", "0", "-c", QUERY)
    assert status == 0, output
    assert "Losing this file loses every stored credential" in output
    assert "pid " in output
    installation.wait_until_gone(1)


def test_a_command_waits_for_the_one_that_uses_its_servers(installation: Installation) -> None:
    first = installation.start("manage.py", "shell", "-v", "0", "-c", UP)
    assert first.stdout
    while "up" not in first.stdout.readline():
        pass
    second = installation.start("manage.py", "shell", "-v", "0", "-c", f"{UP}; {QUERY}")
    assert second.stdout
    while "up" not in second.stdout.readline():
        pass
    assert first.stdin
    first.stdin.write("\n")
    first.stdin.flush()
    output, _ = second.communicate("\n", timeout=20)
    assert second.returncode == 0, output
    assert first.wait(20) == 0


def test_a_server_that_cannot_start_says_why(installation: Installation) -> None:
    installation.folder.mkdir(parents=True, mode=0o700)
    runtime.prepare(installation.folder)
    (installation.folder / "postgres").mkdir()
    refused = pytest.raises(CommandError, match=r"PostgreSQL did not start \(.*postgresql\.log\): ")
    with refused, embedded.serve(installation.folder):
        pass
    wait_for(lambda: not installation.processes(), 5, installation.processes)
