"""Nothing outlives the process that asked for it: launcher, watcher and lifeline, with real processes."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from config import embedded, launch, runtime
from tests.config.conftest import is_running, wait_for

if TYPE_CHECKING:
    from pathlib import Path

PARENT = """
import subprocess, sys
from config import embedded
child = subprocess.Popen(embedded.launch_command([sys.executable, "-c", {program!r}], death_signal={signal}))
print(child.pid, flush=True)
sys.stdin.read()
"""
WATCHED = """
import signal, subprocess, sys, os
from config import launch
child = subprocess.Popen(["/bin/sleep", "60"])
launch.watch_from_aside(os.getpid(), child.pid, signal.SIGTERM)
print(child.pid, flush=True)
sys.stdin.read()
"""
WORKER = """
import multiprocessing, time
from config import lifeline
def work():
    lifeline.watch_parent()
    time.sleep(60)
if __name__ == "__main__":
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    print(child.pid, flush=True)
    child.join()
"""


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(PARENT.format(program="import time; time.sleep(60)", signal="9"), id="launched"),
        pytest.param(WATCHED, id="watched from aside"),
        pytest.param(WORKER, id="lifeline"),
    ],
)
def test_a_killed_parent_takes_its_child_along(program: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", program], cwd=runtime.CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout
    child = int(parent.stdout.readline())
    assert is_running(child)
    parent.kill()
    parent.wait()
    wait_for(lambda: not is_running(child), 5, lambda: child)
    parent.communicate()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root drops to another user")
def test_root_becomes_nobody_and_still_reaches_a_private_home(tmp_path: Path) -> None:
    program = tmp_path / "home" / "program"
    program.parent.mkdir(mode=0o700)
    program.touch(mode=0o700)
    look = f"import os; print(os.getuid(), os.getgroups(), os.access({str(program)!r}, os.X_OK))"
    command = embedded.launch_command([sys.executable, "-c", look], death_signal=signal.SIGTERM, user="nobody")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split(" ", 1)[0] == str(pwd.getpwnam("nobody").pw_uid)
    assert done.stdout.split(" ", 1)[1].strip() == "[] True"


def test_a_child_of_a_parent_that_is_gone_already_does_not_start() -> None:
    command = embedded.launch_command(["/bin/echo", "started"], death_signal=signal.SIGTERM)
    command[command.index(str(launch.__file__)) + 1] = "1"  # not our parent any more
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
