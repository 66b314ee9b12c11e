"""``manage.py up``: the whole product in one terminal, which is what ``make run`` starts."""

from __future__ import annotations

import contextlib
import http.client
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from django.db.backends.postgresql.base import DatabaseWrapper

from config import embedded, processes, runtime, supervisor

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from contextlib import AbstractContextManager

_HOST = "127.0.0.1"
_PORT_STEP = 100


class Command(BaseCommand):
    help = "Runs web, worker and beat together, with the embedded servers and the sandbox where they are wanted."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--stop-with-parent", action="store_true", help="stop when the process that started this one is gone"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self.parent = os.getppid() if options["stop_with_parent"] else None
        self.began = time.monotonic()
        self.is_announced = False
        self.terminal = sys.stdin.fileno() if sys.stdin and sys.stdin.isatty() else None
        try:
            with supervisor.stop_signals(), _servers() as servers:
                _refuse_busy_ports()
                if settings.EMBEDDED:
                    runtime.record_port(settings.VAR_DIR, settings.PORT)
                _prepare_database()
                supervisor.run(_programs(), servers=servers, environ=_environ(), on_tick=self.tick)
        except supervisor.StopRequested as reason:
            self.say(f"Stopped ({reason}).")

    def tick(self) -> None:
        """Announce the first answer; ask for a stop when the parent or the terminal is gone."""
        if self.parent not in (None, os.getppid()):
            raise supervisor.StopRequested("its parent ended")
        if self.terminal is not None and supervisor.is_hung_up(self.terminal):
            raise supervisor.StopRequested("its terminal was closed")
        if not self.is_announced and _answers():
            self.is_announced = True
            self.announce()

    def announce(self) -> None:
        """Tell the operator where everything is."""
        self.say(f"Ready after {time.monotonic() - self.began:.1f} s: {settings.PUBLIC_BASE_URL}/admin/")
        first_login = settings.VAR_DIR / "first-login.env"
        if first_login.exists():
            self.say(f"First login and API keys: {first_login}")
        if settings.SANDBOX:
            self.say(f"Sandbox provider: {settings.SANDBOX_URL}")
        self.say("Stop with Ctrl-C.")

    def say(self, line: str) -> None:
        """Print one line; a terminal that is already closed is no reason to fail."""
        with contextlib.suppress(OSError):
            self.stdout.write(line)
            self.stdout.flush()


def _servers() -> AbstractContextManager[list[embedded.Server]]:
    return embedded.serve(settings.VAR_DIR) if settings.EMBEDDED else contextlib.nullcontext([])


def _refuse_busy_ports() -> None:
    for port in (settings.PORT, settings.PORT + 1)[: 1 + settings.SANDBOX]:
        if not processes.is_free(port):
            other = _free_port()
            raise CommandError(
                f"Port {port} is taken by {processes.describe(processes.listener(port))}. Stop that first, or type: "
                f"make run PORT={other}"
            )


def _free_port() -> int:
    candidates = range(settings.PORT + _PORT_STEP, 65_000, _PORT_STEP)
    return next((port for port in candidates if processes.is_free(port) and processes.is_free(port + 1)), 0)


def _prepare_database() -> None:
    # The check comes before anything is written: with other keys the start ends here.
    call_command("check_encryption_keys")
    call_command("migrate", interactive=False, verbosity=0)
    call_command("setup")
    for connection in connections.all(initialized_only=True):
        connection.close()
        if isinstance(connection, DatabaseWrapper):
            connection.close_pool()


def _programs() -> list[supervisor.Program]:
    web = f"granian --interface wsgi --host {_HOST} --port {settings.PORT} --workers {settings.WEB_WORKERS}"
    # One worker that is killed (the kernel takes the largest when memory ends) costs its own calls and no others.
    web += f" --blocking-threads {settings.WEB_THREADS} --respawn-failed-workers --no-ws --log-level error"
    web += " config.wsgi:application"
    worker = "celery --quiet -A config worker --loglevel INFO --without-gossip --without-mingle"
    quick = f"{worker} --queues celery --concurrency {settings.WORKER_CONCURRENCY}"
    slow = f"{worker} --queues slow --concurrency {settings.SLOW_WORKER_CONCURRENCY} --hostname slow@%h"
    beat = ["celery", "--quiet", "-A", "config", "beat", "--pidfile=", "--schedule", str(settings.VAR_DIR / "beat")]
    settings.VAR_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
    programs = [
        _program("web", web.split()),
        _program("worker", quick.split()),
        _program("slow worker", slow.split()),
        _program("beat", beat),
    ]
    if settings.SANDBOX:
        sandbox = f"connections.sandbox --port {settings.PORT + 1}"
        # A browser may know us by any of these, and the sandbox sends nobody to an address that it was not told.
        origins = {settings.PUBLIC_BASE_URL, *(f"http://{host}:{settings.PORT}" for host in (_HOST, "localhost"))}
        sandbox += "".join(f" --callback-origin {origin}" for origin in sorted(origins))
        # Requests and tasks that are being finished may still call it.
        programs.append(_program("sandbox", sandbox.split(), stage=1, grace_seconds=5))
    return programs


def _program(name: str, module: list[str], *, stage: int = 0, grace_seconds: float = 30) -> supervisor.Program:
    return supervisor.Program(name, (sys.executable, "-m", *module), stage, grace_seconds)


def _environ() -> dict[str, str]:
    return {**os.environ, "VAR_DIR": str(settings.VAR_DIR), "PORT": str(settings.PORT)}


def _answers() -> bool:
    connection = http.client.HTTPConnection(_HOST, settings.PORT, timeout=5)
    try:
        connection.request("GET", "/healthz")
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True
