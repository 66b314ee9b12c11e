"""A worker whose Valkey is killed and comes back empty, with a run, an event and a delivery under way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kombu
import pytest
from celery import current_app
from django.test import Client

from config import runtime
from connections.models import EventStatus, RunState, WebhookEvent, WorkflowRun
from connections.webhooks.inbound import handlers
from connections.workflows import start, step, workflow
from tests.connections.webhooks.inbound.test_outage import Valkey
from tests.inbound import send, stripe_body, webhook_provider
from tests.processes import environ_of_tests
from tests.webhook_receiver import Receiver, make_endpoint, tell

pytestmark = pytest.mark.django_db(transaction=True)

# Its second step, the handler of the first event, and a task wait until the test lets them go on.
WORKER = """
import sys, time
from pathlib import Path
import django
django.setup()
from config.celery import app
from connections.webhooks import on_webhook
from connections.workflows import step, workflow

folder = Path(sys.argv.pop(1))

def note(line):
    with (folder / "effects").open("a") as effects:
        effects.write(line + "\\n")

def wait():
    while not (folder / "go").exists():
        time.sleep(0.02)

@step(name="one-of-three")
def one(context, *, number):
    note(f"begun {context.idempotency_key}")
    if number == 2:
        wait()
    note(context.idempotency_key)

workflow("three")(lambda context, given: [one(context, number=number) for number in (1, 2, 3)] and None)

@on_webhook("stripe", atomic=False)
def handle(event):
    note(f"begun {event.id}")
    if event.id == "evt_1":
        wait()
    note(event.id)

@app.task(name="tests.wait")
def wait_too():
    wait()

app.worker_main(["--quiet", "worker", "--without-gossip", "--without-mingle", *sys.argv[1:]])
"""


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    server = Valkey(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def effects(tmp_path: Path, valkey: Valkey) -> Iterator[Callable[[], list[str]]]:
    """What a real worker with a beat of its own has done so far."""
    environ = environ_of_tests(REDIS_URL=f"redis://127.0.0.1:{valkey.port}/0", EGRESS_ALLOW="127.0.0.1")
    command = [sys.executable, "-c", WORKER, str(tmp_path), "-B", "-s", str(tmp_path / "beat"), "-l", "ERROR"]
    command += ["-Q", "celery,slow", "-c", "3"]
    process = subprocess.Popen(command, cwd=runtime.CHECKOUT, env=environ, start_new_session=True)
    ledger = tmp_path / "effects"
    yield lambda: ledger.read_text().splitlines() if ledger.exists() else []
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


def wait_for(is_so: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.usefixtures("_no_other_handlers")
def test_all_goes_on_and_nothing_is_done_twice(
    valkey: Valkey, effects: Callable[[], list[str]], tmp_path: Path, client: Client, settings: Any
) -> None:
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    one = step(name="one-of-three")(lambda context, *, number: None)
    workflow("three")(lambda context, given: [one(context, number=number) for number in (1, 2, 3)] and None)
    webhook_provider()
    receiver = Receiver()
    try:
        make_endpoint(receiver, "grant.expired")
        runs = [start("three", {})]
        assert send(client, stripe_body("evt_1")).status_code == 200
        tell()
        begun = {f"begun {runs[0].pk}-2", "begun evt_1"}
        wait_for(lambda: begun <= set(effects()) and len(receiver.received) == 1)
        # More than it has processes for: some are with the worker and not begun when their server goes.
        with kombu.Connection(f"redis://127.0.0.1:{valkey.port}/0") as broker:
            for _ in range(12):
                current_app.send_task("tests.wait", connection=broker)
        wait_for(lambda: valkey.client().hlen("unacked") > 0)
        valkey.kill()
        runs.append(start("three", {}))
        assert send(client, stripe_body("evt_2")).status_code == 200
        tell()
        (tmp_path / "go").touch()
        wait_for(lambda: {f"{runs[0].pk}-3", "evt_1"} <= set(effects()))
        valkey.start()
        wait_for(lambda: not WorkflowRun.objects.filter(state=RunState.OPEN).exists())
        wait_for(lambda: not WebhookEvent.objects.exclude(status=EventStatus.PROCESSED).exists())
        wait_for(lambda: len(receiver.received) == 2)
    finally:
        receiver.close()
    assert set(WorkflowRun.objects.values_list("state", flat=True)) == {RunState.SUCCEEDED}
    done = [line for line in effects() if not line.startswith("begun")]
    assert sorted(done) == sorted([*(f"{run.pk}-{number}" for run in runs for number in (1, 2, 3)), "evt_1", "evt_2"])
    assert len({message.headers["webhook-id"] for message in receiver.received}) == 2


@pytest.fixture
def _no_other_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    from connections.webhooks.inbound import receivers

    receivers.forget()
    monkeypatch.setattr(handlers, "_handlers", [])
