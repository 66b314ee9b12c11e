"""Keep a handful of programs running together: all of them, or none.

A program that ends by itself ends the whole product, with a line that says which: what restarts a crashed program for
ever hides the crash, and whoever wants restarts has an init system. Stopping sends SIGTERM to the programs themselves
and never to their process groups, because a group's SIGTERM also hits the pool processes that run tasks.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from django.core.management.base import CommandError

from config import embedded, runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import FrameType

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_POLL_SECONDS = 0.1


class StopRequested(BaseException):
    """Ctrl-C, SIGTERM, a closed terminal, or a parent that is gone; not an error, so nothing may swallow it as one."""


@dataclass(frozen=True)
class Program:
    """One program of the product. Those of a lower ``stage`` stop first and get ``grace_seconds`` to finish."""

    name: str
    command: tuple[str, ...]
    stage: int = 0
    grace_seconds: float = 30


@contextlib.contextmanager
def stop_signals() -> Iterator[None]:
    """Turn the first stop signal into `StopRequested`; once stopping has begun, further ones change nothing."""
    before = {number: signal.signal(number, _request_stop) for number in _STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def is_hung_up(descriptor: int) -> bool:
    """Tell whether a terminal is gone. The kernel tells its session's leader alone, and that may be `make`."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, event in poll.poll(0))


def run(
    programs: Sequence[Program],
    *,
    servers: Sequence[embedded.Server],
    environ: Mapping[str, str],
    on_tick: Callable[[], None],
) -> NoReturn:
    """Run the programs until `StopRequested`, which ``on_tick`` (called several times a second) may raise as well.

    Raises `CommandError` when a program or a server ends by itself. The programs are stopped in any case; the servers
    are the caller's to stop.
    """
    running: dict[Program, subprocess.Popen[bytes]] = {}
    try:
        for program in programs:
            running[program] = _start(program, environ)
        while True:
            _fail_if_any_ended(running, servers)
            on_tick()
            time.sleep(_POLL_SECONDS)
    finally:
        _ignore_stop_signals()
        _stop(running)


def _start(program: Program, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own command line
        embedded.launch_command(program.command, death_signal=signal.SIGKILL),
        stdin=subprocess.DEVNULL,
        cwd=runtime.CHECKOUT,
        env=dict(environ),
        start_new_session=True,
    )


def _fail_if_any_ended(running: Mapping[Program, subprocess.Popen[bytes]], servers: Sequence[embedded.Server]) -> None:
    processes = {program.name: process for program, process in running.items()}
    processes |= {server.name: server.process for server in servers}
    for name, process in processes.items():
        status = process.poll()
        if status is not None:
            how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
            raise CommandError(f"{name} (process {process.pid}) {how}, so everything was stopped.")


def _stop(running: Mapping[Program, subprocess.Popen[bytes]]) -> None:
    for stage in sorted({program.stage for program in running}):
        members = {program: process for program, process in running.items() if program.stage == stage}
        for process in members.values():
            process.terminate()
        began = time.monotonic()
        for program, process in members.items():
            left = max(0.0, began + program.grace_seconds - time.monotonic())
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(left)
            # Whatever a killed or overdue program leaves behind is in its own group.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _request_stop(number: int, frame: FrameType | None) -> NoReturn:
    _ignore_stop_signals()
    raise StopRequested(signal.Signals(number).name)


def _ignore_stop_signals() -> None:
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
