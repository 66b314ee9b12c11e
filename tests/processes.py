"""Forked children that die where a test wants them to, what a process of the tests needs, and its memory."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection

from config import runtime

__all__ = ["begin", "die", "dying", "environ_of_tests", "in_child", "resident_bytes"]


def begin(act: Callable[[], object]) -> int:
    """Fork a process that acts; returns its id."""
    connection.close()  # its socket is nothing to share
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        act()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def in_child(act: Callable[[], object]) -> int:
    """Let a forked process act; returns its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(begin(act), 0)[1])


def die(*_: object, **__: object) -> Any:
    """End this process as ``kill -9`` does."""
    os.kill(os.getpid(), signal.SIGKILL)


def dying(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function whose process dies right after it."""

    def run_and_die(*args: Any, **options: Any) -> Any:
        function(*args, **options)
        die()

    return run_and_die


def resident_bytes(pid: int | str = "self") -> int:
    """How much memory of its own and of shared pages a process has in use (Linux)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def environ_of_tests(**more: str) -> dict[str, str]:
    """Return the environment of a process that uses the servers of this run, and the test's own database."""
    folder = Path(settings.VAR_DIR)
    url = runtime.postgres_url(runtime.socket_dir(folder), runtime.OWNER_ROLE, str(connection.settings_dict["NAME"]))
    return {**os.environ, **runtime.environment(folder), "DATABASE_URL": url, "MIGRATE_DATABASE_URL": url, **more}
