"""What a workflow of three empty steps costs, in units of the same three as bare chained Celery tasks."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from config import runtime
from connections.models import RunState, WorkflowRun
from connections.workflows import start, workflow
from tests.bench import chained_tasks
from tests.processes import environ_of_tests

pytestmark = pytest.mark.django_db(transaction=True)

RUNS, ROUNDS, WORKERS = 500, 5, 2


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[None]:
    """One Celery worker for both, with beat as in an installation."""
    command = [sys.executable, "-m", "celery", "-A", "tests.bench.bench_app", "worker", "-B", "-c", str(WORKERS)]
    command += ["-l", "ERROR", "-s", str(tmp_path / "beat")]
    process = subprocess.Popen(command, cwd=runtime.CHECKOUT, env=environ_of_tests(), stderr=subprocess.DEVNULL)
    chained_tasks.run_chains(1)
    yield
    process.kill()
    process.wait(10)


def run_workflows(count: int) -> float:
    """Return how many runs a second were started and ended."""
    WorkflowRun.objects.all().delete()
    began = time.monotonic()
    for _ in range(count):
        start(chained_tasks.WORKFLOW)
    while WorkflowRun.objects.filter(state=RunState.SUCCEEDED).count() < count:
        time.sleep(0.02)
    return count / (time.monotonic() - began)


def test_three_empty_steps(worker: None, capsys: pytest.CaptureFixture[str]) -> None:
    workflow(chained_tasks.WORKFLOW)(lambda context, given: None)
    rates: dict[str, list[float]] = {"chains": [], "workflows": []}
    for _ in range(ROUNDS):
        rates["chains"].append(chained_tasks.run_chains(RUNS))
        rates["workflows"].append(run_workflows(RUNS))
    ratio = statistics.median(ours / bare for ours, bare in zip(rates["workflows"], rates["chains"], strict=True))
    with capsys.disabled():
        print(
            f"\nWorkflows of three empty steps: {ratio:.2f} times the runs a second of chained Celery tasks "
            f"({statistics.median(rates['workflows']):.0f} and {statistics.median(rates['chains']):.0f} a second)"
        )
    assert ratio >= 0.35
