"""The supervisor's order and manners, with small programs in place of the real ones."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest
from django.core.management.base import CommandError

from config import supervisor
from tests.config.conftest import is_running, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = """
import signal, subprocess, sys, time
name, log, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
def write(word):
    with open(log, "a") as file:
        file.write(f"{word} {name}\\n")
def finish(number, frame):
    write("asked")
    time.sleep(seconds)
    write("finished")
    sys.exit(0)
signal.signal(signal.SIGTERM, finish)
write("started")
signal.pause()
"""
ORPHANING = """
import os, pathlib, subprocess, sys
child = subprocess.Popen(["/bin/sleep", "60"])
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
os.kill(os.getpid(), 9)
"""


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    """A supervisor that stops goes deaf for good, which must not outlast its test."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def _program(name: str, log: Path, seconds: float = 0, **more: float) -> supervisor.Program:
    command = (sys.executable, "-c", PROGRAM, name, str(log), str(seconds))
    return supervisor.Program(name, command, int(more.get("stage", 0)), more.get("grace_seconds", 30))


def _run_until(count: int, log: Path, *programs: supervisor.Program, then: int = signal.SIGTERM) -> list[str]:
    """Run until ``count`` programs have started, send ourselves a signal, and return what the programs wrote."""

    def on_tick() -> None:
        if log.exists() and log.read_text().count("started") == count:
            os.kill(os.getpid(), then)

    with supervisor.stop_signals(), pytest.raises(supervisor.StopRequested):
        supervisor.run(programs, servers=[], environ=os.environ, on_tick=on_tick)
    return [line for line in log.read_text().splitlines() if not line.startswith("started")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_stage_finishes_before_the_next_is_asked(tmp_path: Path, number: int) -> None:
    log = tmp_path / "log"
    programs = _program("web", log, 0.3), _program("sandbox", log, stage=1)
    lines = _run_until(2, log, *programs, then=number)
    assert lines == ["asked web", "finished web", "asked sandbox", "finished sandbox"]


def test_a_program_that_does_not_finish_in_time_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert _run_until(1, log, _program("slow", log, 60, grace_seconds=0.3)) == ["asked slow"]


def test_a_second_signal_does_not_break_off_the_stopping(tmp_path: Path) -> None:
    log = tmp_path / "log"
    signalling = PROGRAM.replace('write("asked")', f"import os; os.kill({os.getpid()}, 2); write('asked')")
    impatient = supervisor.Program("impatient", (sys.executable, "-c", signalling, "impatient", str(log), "0.2"))
    assert _run_until(1, log, impatient) == ["asked impatient", "finished impatient"]


def test_the_unexpected_end_of_one_stops_all_and_is_named(tmp_path: Path) -> None:
    log = tmp_path / "log"
    mortal = supervisor.Program("worker", (sys.executable, "-c", "import time; time.sleep(0.5); raise SystemExit(3)"))
    with pytest.raises(CommandError, match=r"worker \(process \d+\) ended with status 3, so everything was stopped"):
        supervisor.run([_program("web", log), mortal], servers=[], environ=os.environ, on_tick=lambda: None)
    assert log.read_text().splitlines()[-1] == "finished web"


def test_children_of_a_killed_program_are_swept_up(tmp_path: Path) -> None:
    child = tmp_path / "child"
    master = supervisor.Program("web", (sys.executable, "-c", ORPHANING, str(child)))
    with pytest.raises(CommandError, match="was killed by SIGKILL"):
        supervisor.run([master], servers=[], environ=os.environ, on_tick=lambda: None)
    pid = int(child.read_text())
    wait_for(lambda: not is_running(pid), 5, lambda: pid)
