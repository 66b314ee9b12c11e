"""kill -9 of whoever receives and of whoever processes, at each point: no event is lost, no effect is doubled.

Each step runs in a forked process with a connection of its own, which is killed where the test says.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from connections import wakeups
from connections.models import EventStatus, WebhookEvent
from connections.signals import webhook_received
from connections.webhooks import ReceivedEvent, on_webhook
from connections.webhooks.inbound import processing, receipt
from connections.webhooks.inbound.processing import process_due
from external_apis.models import Partner
from tests.factories import make_partner
from tests.inbound import make_webhook_event, send, stripe_body, webhook_provider
from tests.processes import begin, die, dying, in_child

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _no_worker(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    monkeypatch.setattr(wakeups, "_send", lambda task: None)
    settings.INBOUND_SWEEPS = 8  # several at one provider; and a killed one keeps its slot for minutes


def deliver() -> None:
    assert send(Client(), stripe_body(kind="invoice.paid")).status_code == 200


def let_the_lease_end() -> None:
    """What time does."""
    WebhookEvent.objects.filter(due_at__isnull=False).update(due_at=timezone.now())


@on_webhook("nothing")
def write(event: ReceivedEvent) -> None:
    make_partner(slug=f"of-{time.time_ns()}")


@pytest.mark.parametrize(
    ("point", "stored"),
    [
        ("_store", 0),  # proven, not stored
        ("_sealed", 0),
        ("wake", 1),  # stored, nobody woken, no answer
        ("webhook_received", 1),
    ],
)
def test_the_web_process_dies(monkeypatch: pytest.MonkeyPatch, point: str, stored: int) -> None:
    on_webhook("stripe")(write)
    webhook_provider()

    def deliver_and_die() -> None:
        if point == "webhook_received":
            webhook_received.connect(die, weak=False)
        else:
            monkeypatch.setattr(receipt, point, die)
        deliver()

    assert in_child(deliver_and_die) == -signal.SIGKILL
    assert WebhookEvent.objects.count() == stored
    # The provider had no answer, and sends it again.
    assert in_child(deliver) == 0
    assert WebhookEvent.objects.count() == 1
    assert in_child(process_due) == 0
    assert Partner.objects.count() == 1
    assert WebhookEvent.objects.get().status == EventStatus.PROCESSED


@pytest.mark.parametrize(
    ("point", "after", "effects"),
    [
        ("claim", True, 0),
        ("_run", False, 0),
        ("_note", False, 0),  # the handler has run, its transaction is open
        ("_note", True, 0),  # its outcome is written in the same one
        ("_run", True, 1),  # committed
        ("_end_attempt", False, 1),
        ("_end_attempt", True, 1),
    ],
)
def test_the_worker_dies(monkeypatch: pytest.MonkeyPatch, point: str, after: bool, effects: int) -> None:
    on_webhook("stripe")(write)
    webhook_provider()
    deliver()

    def process_and_die() -> None:
        monkeypatch.setattr(processing, point, dying(getattr(processing, point)) if after else die)
        process_due()

    assert in_child(process_and_die) == -signal.SIGKILL
    assert Partner.objects.count() == effects
    # Nobody takes it before its lease is over.
    assert in_child(process_due) == 0
    assert Partner.objects.count() == effects
    let_the_lease_end()
    assert in_child(process_due) == 0
    assert Partner.objects.count() == 1
    assert WebhookEvent.objects.get().status == EventStatus.PROCESSED


def test_a_worker_that_dies_has_begun_with_one_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """What kills workers is buried in the end, and nothing that only stood behind it."""
    on_webhook("stripe")(write)
    webhook_provider()
    for number in range(3):
        send(Client(), stripe_body(f"evt_{number}", "invoice.paid"))

    def process_and_die() -> None:
        monkeypatch.setattr(processing, "_run", die)
        process_due()

    assert in_child(process_and_die) == -signal.SIGKILL
    assert sorted(WebhookEvent.objects.values_list("attempts", flat=True)) == [0, 0, 1]
    assert in_child(process_due) == 0
    assert Partner.objects.count() == 2


def test_two_workers_at_once_have_one_effect() -> None:
    on_webhook("stripe")(write)
    api = webhook_provider()
    now = timezone.now()
    waits: dict[str, Any] = {"status": EventStatus.RECEIVED, "due_at": now, "finished_at": None}
    for number in range(30):
        make_webhook_event(api, event_id=f"evt_{number}", **waits)
    pids = [begin(process_due) for _ in range(3)]
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0, 0]
    assert Partner.objects.count() == 30
    assert not WebhookEvent.objects.exclude(status=EventStatus.PROCESSED).exists()


def test_two_processes_receive_one_event_and_process_it() -> None:
    on_webhook("stripe")(write)
    webhook_provider()

    def deliver_and_process() -> None:
        deliver()
        process_due()

    pids = [begin(deliver_and_process) for _ in range(3)]
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0, 0]
    assert WebhookEvent.objects.count() == 1
    assert Partner.objects.count() == 1
