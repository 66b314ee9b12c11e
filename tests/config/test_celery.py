"""Tasks through the real broker: the request id of whoever sends one goes with it, and nothing else does."""

from __future__ import annotations

import base64
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import structlog
from celery.contrib.testing.worker import start_worker

from config import runtime
from config.celery import app
from external_apis import request_context, valkey
from external_apis.request_context import acting, current
from tests.config.conftest import wait_for

QUEUE = "tests-request-id"
seen: list[tuple[str, str, dict[str, Any]]] = []


@pytest.fixture
def task() -> Iterator[Any]:
    @app.task(name="tests.note_request_id", ignore_result=True)
    def note() -> None:
        context = current()
        seen.append((context.request_id, context.actor, structlog.contextvars.get_contextvars()))

    seen.clear()
    yield note
    app.tasks.pop("tests.note_request_id")
    valkey.client().delete(QUEUE)
    request_context.start()
    structlog.contextvars.clear_contextvars()


def work_off() -> None:
    with start_worker(app, pool="solo", queues=[QUEUE], perform_ping_check=False, shutdown_timeout=10):
        wait_for(lambda: len(seen) == 3, 10, lambda: str(seen))


def test_a_task_goes_by_the_request_id_of_its_sender(task: Any) -> None:
    request_context.start("request-of-the-tests")
    with acting("user:alice"):
        task.apply_async(queue=QUEUE)
    raw: Any = valkey.client().lrange(QUEUE, 0, -1)
    (message,) = [json.loads(item) for item in raw]
    assert message["headers"]["eam_request_id"] == "request-of-the-tests"
    assert "alice" not in json.dumps(message)
    task.apply_async(queue=QUEUE, headers={"eam_request_id": "evil\nid"})
    request_context._current.set(request_context.RequestContext())
    task.apply_async(queue=QUEUE)
    work_off()
    ids = [request_id for request_id, _, _ in seen]
    assert ids[0] == ids[1] == "request-of-the-tests"
    assert ids[2].startswith("req_")
    assert [bound["request_id"] for _, _, bound in seen] == ids
    assert {actor for _, actor, _ in seen} == {""}


def test_a_message_in_flight_holds_nothing_but_ids() -> None:
    """Every task finds what it needs in the database: none takes an argument that could be a secret."""
    app.loader.import_default_modules()
    own = [task for name, task in app.tasks.items() if name.startswith(("connections.", "external_apis."))]
    assert len(own) > 5
    request_context.start("request-of-the-tests")
    try:
        for task in own:
            assert not inspect.signature(task.run).parameters, task.name
            task.apply_async(queue=QUEUE)
        messages = [json.loads(item) for item in cast("list[bytes]", valkey.client().lrange(QUEUE, 0, -1))]
    finally:
        valkey.client().delete(QUEUE)
        structlog.contextvars.clear_contextvars()
    assert len(messages) == len(own)
    for message in messages:
        arguments, named, _ = json.loads(base64.b64decode(message["body"]))
        assert (arguments, named) == ([], {})
        assert message["headers"]["argsrepr"] == "()"


def test_a_malformed_id_is_replaced() -> None:
    request_context.start("evil\nid")
    assert current().request_id.startswith("req_")
    structlog.contextvars.clear_contextvars()


# What a worker says whose pool misses a process, as Celery's own does: the pool's line, and that of the task's request.
LOSS = """
import django
django.setup()
from billiard import util
from billiard.einfo import ExceptionInfo
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery.worker import request
from config.celery import app

app.log.setup("INFO")
util.get_logger().error("Process %r pid:%d exited with %r", "ForkPoolWorker-3", 5, "signal 9 (SIGKILL)")
for kind in (WorkerLostError, TimeLimitExceeded, ValueError):
    try:
        raise kind("Why.")
    except Exception as error:
        request.error("Task handler raised error: %r", error, exc_info=ExceptionInfo().exc_info)
"""


def test_a_killed_process_of_the_pool_is_told_in_json_lines_without_a_traceback() -> None:
    told = subprocess.run(
        [sys.executable, "-c", LOSS], cwd=runtime.CHECKOUT, env=os.environ, capture_output=True, text=True, check=True
    ).stderr
    lines = [json.loads(line) for line in told.splitlines()]
    assert [(line["level"], line["event"].split()[0], "exception" in line) for line in lines] == [
        ("error", "Process", False),
        ("error", "Task", False),
        ("error", "Task", False),
        ("error", "Task", True),
    ]


SHARE = """
import gc, os, re
import django
django.setup()
assert gc.isenabled() and gc.get_freeze_count() > 100_000  # config.loading
from celery.signals import worker_before_create_process
from config.celery import app

app.loader.import_default_modules()
worker_before_create_process.send(sender=None)
if not os.fork():
    gc.collect()
    told = open("/proc/self/smaps_rollup").read()
    own, all = (int(re.search(name + r":\\s+(\\d+)", told)[1]) for name in ("Private_Dirty", "Rss"))
    os._exit(0 if own < all / 4 else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells how much is shared")
def test_a_process_of_the_pool_shares_its_masters_memory() -> None:
    subprocess.run([sys.executable, "-c", SHARE], cwd=runtime.CHECKOUT, env=os.environ, check=True)
