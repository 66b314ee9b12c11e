"""Workers killed at each point of a run, and Valkey restarted under one: nothing is lost, nothing done twice."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.utils import timezone

from config import runtime
from connections import workflows
from connections.models import RunState, WorkflowRun
from connections.workflows import start, workflow
from tests.processes import environ_of_tests
from tests.workflow_runs import stored

pytestmark = pytest.mark.django_db(transaction=True)

# What the worker runs, in a child of its own for each line that it is told: the same names as below, writing into a
# file what was done under which key. An effect is idempotent by its key, as a provider's is.
WORKER = """
import os, signal, sys
from pathlib import Path
import django
django.setup()
from connections.workflows import definitions, journal, running, step, workflow
from external_apis.errors import StepFailed

ledger = point = count = None
seen = {}

def reach(name):
    seen[name] = seen.get(name, 0) + 1
    if name == point and seen[name] == count:
        os.kill(os.getpid(), signal.SIGKILL)

def wrap(owner, name, before, after):
    function = getattr(owner, name)
    def wrapped(*args, **kwargs):
        reach(before)
        result = function(*args, **kwargs)
        reach(after)
        return result
    setattr(owner, name, wrapped)

def write(context, what):
    with open(ledger, "a") as file:
        file.write(f"{context.idempotency_key} {what}\\n")

def undo(context, given, result):
    write(context, "undone")
    reach("in_undo")

def make(name, fails=False):
    @step(name=name, compensate=undo)
    def do(context):
        write(context, "done")
        reach("in_step")
        if fails:
            raise StepFailed("No.")
        return name
    return do

one, two, three, no = make("one"), make("two"), make("three"), make("no", fails=True)
workflow("good")(lambda context, given: [one(context), two(context), three(context)])
workflow("bad")(lambda context, given: [one(context), two(context), no(context)])
wrap(running, "claim", "before_claim", "claimed")
wrap(journal.Journal, "store_step", "before_store", "stored")
wrap(journal.Journal, "begin_reverting", "before_reverting", "reverting")
wrap(journal.Journal, "note_undo", "before_undone", "undone")
wrap(journal.Journal, "succeed", "before_end", "ended")
for line in sys.stdin:
    ledger, point, count = line.split()
    count = int(count)
    child = os.fork()
    if not child:
        running.sweep()
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(autouse=True)
def _known_here_too() -> None:
    for name in ("good", "bad"):
        workflow(name)(lambda context, given: None)


class Elsewhere:
    """A process whose children sweep, and die where they are told to."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            cwd=runtime.CHECKOUT,
            env=environ_of_tests(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def sweep(self, ledger: Path, point: str = "nowhere", count: int = 1) -> int:
        """Return the child's exit code."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{ledger} {point} {count}\n")
        self.process.stdin.flush()
        assert select.select([self.process.stdout], [], [], 30)[0]
        return int(self.process.stdout.readline())


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    started = Elsewhere()
    yield started
    started.process.kill()
    started.process.communicate()


def let_lease_run_out() -> None:
    WorkflowRun.objects.filter(due_at__isnull=False).update(due_at=timezone.now() - timedelta(seconds=1))


def test_killed_at_each_point_every_run_ends_and_no_effect_is_doubled(elsewhere: Elsewhere, tmp_path: Path) -> None:
    points = [
        ("good", "claimed", 1), ("good", "in_step", 2), ("good", "before_store", 3), ("good", "stored", 1),
        ("good", "before_end", 1), ("good", "ended", 1),
        ("bad", "before_reverting", 1), ("bad", "reverting", 1), ("bad", "in_undo", 1), ("bad", "undone", 2),
    ]  # fmt: skip
    workers = []
    for number, (name, point, count) in enumerate(points):
        ledger = tmp_path / f"{number}"
        run = start(name)
        assert elsewhere.sweep(ledger, point, count) == -signal.SIGKILL, point
        workers.append((run, ledger))
        # Parked, so that the next worker dies in a run of its own.
        WorkflowRun.objects.filter(pk=run.pk, due_at__isnull=False).update(due_at=timezone.now() + timedelta(hours=1))
    everything = tmp_path / "rest"
    let_lease_run_out()
    assert elsewhere.sweep(everything) == 0
    rest = everything.read_text().splitlines()
    for (name, point, _), (run, ledger) in zip(points, workers, strict=True):
        ended = stored(run)
        assert ended.state == (RunState.SUCCEEDED if name == "good" else RunState.REVERTED), point
        lines = (ledger.read_text().splitlines() if ledger.exists() else []) + [line for line in rest if run.pk in line]
        effects = set(lines)
        done = {f"{run.pk}-{number} done" for number in (1, 2, 3)}
        # Of the step that had failed when its worker died nobody knows that it had, so it is undone as well.
        undone = {f"{run.pk}-{number}-undo undone" for number in ((1, 2, 3) if point == "before_reverting" else (1, 2))}
        # Each effect has its one key, and what was stored was not even repeated: one step or compensation is, at most.
        assert effects == (done if name == "good" else done | undone), point
        assert len(lines) - len(effects) <= 1, point
        assert (len(lines) - len(effects) == 1) is (point in ("in_step", "before_store", "in_undo", "before_reverting"))


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[bytes]]:
    """A real Celery worker with its own beat."""
    command = [sys.executable, "-m", "celery", "-A", "config", "worker", "-B", "-c", "1", "-l", "ERROR"]
    command += ["-s", str(Path(django_settings.VAR_DIR) / "beat-of-workflows"), "-Q", "celery,slow"]
    process = subprocess.Popen(
        command,
        cwd=runtime.CHECKOUT,
        env=environ_of_tests(),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield process
    process.kill()
    process.wait(10)
    try:
        wait_for(lambda: not _is_alive(process.pid), 5)  # its processes, and beat's, end with it
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _is_alive(session: int) -> bool:
    """Whether a process of a session lives, but for those that nobody has buried."""
    listed = subprocess.run(["ps", "-o", "stat=", "-s", str(session)], capture_output=True, text=True, check=False)
    return any(not line.startswith("Z") for line in listed.stdout.split("\n") if line)


def wait_for(is_so: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_messages_that_are_lost_with_valkey_cost_a_sweep(worker: Any, settings: Any) -> None:
    """The broker forgets everything under a run that was started: beat finds the row."""
    from external_apis import valkey

    run = start("create-api-key", {"title": "Key", "type": "secret"})
    valkey.client().flushall()
    wait_for(lambda: stored(run).state != RunState.OPEN, 30)
    assert workflows.result_of(stored(run))["api_key"]["id"]
