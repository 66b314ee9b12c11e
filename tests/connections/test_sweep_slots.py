"""How many sweeps of a kind run at a time, and that those that wait for somebody hold up nobody else."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from celery import current_app
from django.conf import settings as django_settings
from django.db import connection as database
from django.test import Client

from config import runtime
from connections import sweep_slots, wakeups
from connections.models import EventStatus, RunState, WebhookDelivery, WebhookEvent, WorkflowRun
from connections.sweep_slots import in_slot
from connections.workflows import Context, definitions, running, start, step, workflow
from external_apis import valkey
from tests.inbound import forget_sweeps, send, stripe_body, webhook_provider
from tests.processes import die, environ_of_tests, in_child
from tests.queues import routed
from tests.webhook_receiver import Receiver, Reply, make_endpoint, tell
from tests.workflow_runs import stored

TASK = "connections.nothing"


@pytest.fixture(autouse=True)
def _own_workflows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definitions, "_steps", dict(definitions._steps))
    monkeypatch.setattr(definitions, "_workflows", dict(definitions._workflows))


@pytest.fixture
def queue() -> Iterator[Callable[[], int]]:
    """How many messages have woken the task."""

    def length() -> int:
        wakeups._waker.flush(5)
        return int(store.llen("test-slots"))

    with routed(TASK, "test-slots") as store:
        yield length
        store.delete(*store.keys(f"{valkey.PREFIX}sweep:{TASK}:*"), "test-slots")


@pytest.mark.django_db(transaction=True)
class TestSlots:
    def test_one_more_is_turned_away_and_has_its_turn_after_another(self, queue: Callable[[], int]) -> None:
        entered, release, swept = threading.Semaphore(0), threading.Event(), []

        def sweep(leave: Callable[[], None]) -> None:
            swept.append(1)
            entered.release()
            release.wait(10)

        def work() -> None:
            in_slot(TASK, 2, sweep)
            database.close()

        with ThreadPoolExecutor(2) as pool:
            sweeps = [pool.submit(work) for _ in range(2)]
            assert entered.acquire(timeout=5)
            assert entered.acquire(timeout=5)
            in_slot(TASK, 2, sweep)
            assert (len(swept), queue()) == (2, 0)
            release.set()
            for one in sweeps:
                one.result(10)
        assert queue() == 1, "whoever ends first lets another begin, once"
        in_slot(TASK, 2, sweep)
        assert (len(swept), queue()) == (3, 1)

    def test_a_sweep_that_fails_leaves_its_slot(self, queue: Callable[[], int]) -> None:
        with pytest.raises(ZeroDivisionError):
            in_slot(TASK, 1, lambda _: 1 // 0)
        done: list[int] = []
        in_slot(TASK, 1, lambda _: done.append(1))
        assert (done, queue()) == ([1], 0)

    def test_a_slot_lives_as_long_as_its_holder(
        self, queue: Callable[[], int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sweep_slots, "_LIVES_MS", 150)
        monkeypatch.setattr(sweep_slots, "_BEAT_SECONDS", 0.02)
        store, key = valkey.client(), f"{valkey.PREFIX}sweep:{TASK}:1"
        still: list[bool] = []

        def outlive_it(leave: Callable[[], None]) -> None:
            time.sleep(0.2)
            still.append(bool(store.exists(key)))

        def sweep(leave: Callable[[], None]) -> None:
            time.sleep(0.25)  # longer than a slot lives that nobody keeps
            assert store.exists(key)
            store.delete(key)  # as a restart does
            wait_for(lambda: bool(store.exists(key)), 2)

        in_slot(TASK, 1, sweep)
        assert not store.exists(key)
        monkeypatch.setattr(sweep_slots, "_BEAT_SECONDS", 10)
        in_slot(TASK, 1, outlive_it, lives_ms=5_000)
        assert still == [True], "it need not be kept meanwhile"
        assert in_child(lambda: in_slot(TASK, 1, die)) == -signal.SIGKILL
        done: list[int] = []

        def is_free() -> bool:
            in_slot(TASK, 1, lambda _: done.append(1))
            return bool(done)

        wait_for(is_free, 2)

    def test_a_slot_that_was_left_is_anothers(self, queue: Callable[[], int]) -> None:
        done: list[str] = []

        def sweep(leave: Callable[[], None]) -> None:
            in_slot(TASK, 1, lambda _: done.append("too soon"))
            leave()
            leave()
            in_slot(TASK, 1, lambda _: done.append("meanwhile"))

        in_slot(TASK, 1, sweep)
        assert (done, queue()) == (["meanwhile"], 1), "whoever was turned away was woken"
        in_slot(TASK, 1, lambda _: done.append("after"))
        assert done == ["meanwhile", "after"]

    def test_without_valkey_a_sweep_runs_as_it_comes(self, settings: Any) -> None:
        settings.REDIS_URL = "redis://127.0.0.1:1/0"
        done: list[int] = []
        in_slot(TASK, 1, lambda _: done.append(1))
        assert done == [1]


@pytest.mark.django_db(transaction=True)
def test_steps_that_hang_leave_room_for_others(queue: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> None:
    """In each sweep one hangs that began shortly before its end: both wait for it, and others carry on what is due."""
    monkeypatch.setattr(running, "THREADS", 1)
    release, hanging = threading.Event(), threading.Semaphore(0)

    def wait(context: Context) -> None:
        hanging.release()
        release.wait(20)

    def work() -> None:
        in_slot(TASK, 2, lambda leave: running.sweep(seconds=0.2, leave=leave))
        database.close()

    hang = step(name="hangs")(wait)
    workflow("hangs")(lambda context, given: hang(context))
    workflow("trivial")(lambda context, given: None)
    with ThreadPoolExecutor(3) as pool:
        try:
            sweeps = []
            for _ in range(2):
                start("hangs")
                sweeps.append(pool.submit(work))
                assert hanging.acquire(timeout=5)
            run = start("trivial")

            def is_done() -> bool:
                pool.submit(work).result(10)  # as beat has it, every few seconds
                return stored(run).state == RunState.SUCCEEDED

            wait_for(is_done, 3)
            assert not any(one.done() for one in sweeps)
        finally:
            release.set()


# A worker that knows a workflow whose step hangs and a handler that does, and a task that is done at once.
WORKER = """
import sys, time
import django
django.setup()
from config.celery import app
from connections.webhooks import on_webhook
from connections.workflows import step, workflow
from external_apis import valkey

@step(name="hang")
def hang(context):
    time.sleep(60)

workflow("hangs")(lambda context, given: hang(context))

@app.task(name="tests.quick")
def quick():
    valkey.client().set("tests:quick", "1")

app.worker_main(["--quiet", "worker", "--without-gossip", "--without-mingle", *sys.argv[1:]])
"""


@pytest.fixture
def workers() -> Iterator[None]:
    environ = environ_of_tests(EGRESS_ALLOW="127.0.0.1")
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, "-l", "ERROR", "-Q", queue, "-c", count, "--hostname", f"{queue}@tests"],
            cwd=runtime.CHECKOUT,
            env=environ,
            stdin=subprocess.DEVNULL,
        )
        for queue, count in (("celery", "1"), ("slow", str(django_settings.SLOW_WORKER_CONCURRENCY)))
    ]
    yield
    for process in started:
        process.kill()  # its children end with it
        process.wait(10)
    forget_sweeps()


def wait_for(is_so: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("workers")
def test_receivers_and_steps_that_hang_hold_up_nobody_else(client: Client, settings: Any) -> None:
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    webhook_provider(scheme="stripe")
    store, release = valkey.client(), threading.Event()
    store.delete("tests:quick")
    workflow("hangs")(lambda context, given: step(name="hang")(lambda context: None)(context))
    receivers = [Receiver() for _ in range(48)]
    try:
        for receiver in receivers:
            receiver.reply = lambda _: Reply(release=release)
            make_endpoint(receiver, "grant.expired")
        for _ in range(40):
            start("hangs", {})
        tell(3)
        wait_for(lambda: sum(len(receiver.received) for receiver in receivers) >= 32, 40)
        wait_for(lambda: sum(run.fence > 0 for run in _runs()) >= 8, 20)
        for _ in range(8):  # as beat does, every few seconds
            for task in ("deliver_webhooks", "run_workflows"):
                current_app.send_task(f"connections.{task}")
        time.sleep(0.3)
        began = time.monotonic()
        assert send(client, stripe_body()).status_code == 200
        current_app.send_task("tests.quick")
        wait_for(lambda: WebhookEvent.objects.get().status == EventStatus.PROCESSED, 8)
        wait_for(lambda: bool(store.exists("tests:quick")), 8)
        assert time.monotonic() - began < 8
        assert WebhookDelivery.objects.filter(status="pending").count() == 144
    finally:
        release.set()
        for receiver in receivers:
            receiver.close()


def _runs() -> Any:
    return WorkflowRun.objects.all()
