"""A worker killed at every step of a delivery, and Valkey gone: nothing is lost, and a repetition has the same id."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import redis
from celery import current_app
from django.db import transaction
from django.utils import timezone

from connections import wakeups
from connections.models import DeliveryStatus, WebhookDelivery
from connections.webhooks.outbound import claims, delivery, lanes
from connections.webhooks.outbound.delivery import deliver_due
from connections.webhooks.outbound.fan_out import TASK
from external_apis import audit
from external_apis.models import OutboxEvent
from tests.factories import make_connection
from tests.processes import die, in_child
from tests.queues import routed
from tests.webhook_receiver import Receiver, make_endpoint

pytestmark = pytest.mark.django_db(transaction=True)

_QUEUE = "test-webhooks"

POINTS: dict[str, tuple[Any, str, bool]] = {
    "before_fan_out": (delivery, "fan_out", False),
    "after_fan_out": (delivery, "fan_out", True),
    "claimed": (claims, "claim", True),
    "before_send": (lanes, "send", False),
    "after_answer": (lanes, "send", True),
    "before_settling": (claims, "settle", False),
    "settled": (claims, "settle", True),
}
"""A function, and whether the worker dies before or after what it does."""

SENT_BEFORE = {"after_answer", "before_settling", "settled"}


def work_until(point: str) -> None:
    """Sweep as a worker does, and die at the point."""
    module, name, is_after = POINTS[point]
    real = getattr(module, name)

    def act(*args: Any, **kwargs: Any) -> None:
        if is_after:
            real(*args, **kwargs)
        die()

    setattr(module, name, act)
    deliver_due()


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_killed(point: str, receiver: Receiver) -> None:
    make_endpoint(receiver, "connection.updated")
    with transaction.atomic():
        audit.record("connection.updated", make_connection())
    assert in_child(lambda: work_until(point)) == -signal.SIGKILL
    assert len(receiver.received) == (point in SENT_BEFORE)
    if point == "claimed":
        # Nobody has it twice as long as it may be under way.
        assert deliver_due().attempts == 0
    # The lease of whoever was killed is over.
    WebhookDelivery.objects.filter(due_at__isnull=False).update(due_at=timezone.now() - timedelta(seconds=1))
    deliver_due()
    row = WebhookDelivery.objects.get()
    assert (row.status, row.due_at, row.holder) == (DeliveryStatus.DELIVERED, None, "")
    assert {came.message_id for came in receiver.received} == {row.event_id}, "one effect for who looks at the id"
    assert len(receiver.received) == 1 + (point in SENT_BEFORE - {"settled"})
    assert deliver_due().attempts == 0


def test_a_writer_killed_before_its_commit_tells_nothing_and_after_it_everything(receiver: Receiver) -> None:
    make_endpoint(receiver, "connection.updated")
    row = make_connection()

    def write(*, commits: bool) -> None:
        with transaction.atomic():
            audit.record("connection.updated", row)
            if not commits:
                die()
        die()

    for commits in (False, True):
        assert in_child(partial(write, commits=commits)) == -signal.SIGKILL
        assert deliver_due().delivered == commits
        assert OutboxEvent.objects.filter(type="connection.updated").count() == commits


@pytest.fixture
def queue() -> Iterator[redis.Redis]:
    """The broker's own list of messages that wake a worker for this."""
    with routed(TASK, _QUEUE) as client:
        yield client


def test_valkey_that_forgets_the_message_costs_nothing_but_time(receiver: Receiver, queue: redis.Redis) -> None:
    make_endpoint(receiver, "connection.updated")
    row = make_connection()
    queue.delete(_QUEUE)
    with transaction.atomic():
        audit.record("connection.updated", row)
    wakeups._waker.flush(5)
    assert queue.llen(_QUEUE) > 0, "a worker is woken at once"
    queue.delete(_QUEUE)
    assert deliver_due().delivered == 1, "the schedule finds it"


def test_without_valkey_nobody_waits_and_nothing_is_lost(receiver: Receiver, queue: redis.Redis) -> None:
    make_endpoint(receiver, "connection.updated")
    row = make_connection()
    wakeups._waker.flush(5)
    queue.delete(_QUEUE)

    def write() -> None:
        current_app.conf.update(broker_url="redis://127.0.0.1:1/0")
        current_app._after_fork()  # type: ignore[attr-defined]  # forgets its connections
        began = time.monotonic()
        with transaction.atomic():
            audit.record("connection.updated", row)
        took = time.monotonic() - began
        wakeups._waker.flush(0.1)  # whoever exits has a moment for it
        os._exit(0 if took < 1 else 2)

    assert in_child(write) == 0
    assert queue.llen(_QUEUE) == 0
    assert deliver_due().delivered == 1
