"""From a provider's signed webhook to one run of a workflow, whoever is killed on the way."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone

from connections import wakeups
from connections.models import EventStatus, RunState, WebhookEvent, WorkflowRun
from connections.webhooks import ReceivedEvent, on_webhook
from connections.webhooks.inbound import handlers, processing, receivers
from connections.webhooks.inbound.processing import process_due
from connections.workflows import definitions, running, runs, start, step, workflow
from connections.workflows.running import sweep
from external_apis.models import Partner
from tests.factories import make_partner
from tests.inbound import forget_sweeps, send, stripe_body, webhook_provider
from tests.processes import die, dying, in_child

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _paid(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[None]:
    """A workflow of which the database shows how often its step was done, and a handler that starts it."""
    receivers.forget()
    settings.INBOUND_SWEEPS = 16  # a sweep that is killed keeps its slot for minutes
    monkeypatch.setattr(wakeups, "_send", lambda task: None)
    monkeypatch.setattr(handlers, "_handlers", [])
    monkeypatch.setattr(definitions, "_steps", dict(definitions._steps))
    monkeypatch.setattr(definitions, "_workflows", dict(definitions._workflows))

    @step(name="deliver", is_local=True)
    def deliver(context: Any) -> str:
        return make_partner(slug=context.idempotency_key.lower().replace("_", "-")).pk

    workflow("deliver")(lambda context, given: deliver(context))

    @on_webhook("stripe", "payment_intent.succeeded")
    def start_delivery(event: ReceivedEvent) -> None:
        start("deliver", idempotency_key=event.idempotency_key, tenant=event.tenant_id)

    webhook_provider()
    yield
    receivers.forget()
    forget_sweeps()


def deliver() -> None:
    assert send(Client(), stripe_body()).status_code == 200


def let_leases_end() -> None:
    for model in (WebhookEvent, WorkflowRun):
        model._default_manager.filter(due_at__isnull=False).update(due_at=timezone.now())


def work() -> None:
    process_due()
    sweep()


def assert_one_delivery() -> None:
    assert WebhookEvent.objects.get().status == EventStatus.PROCESSED
    assert WorkflowRun.objects.get().state == RunState.SUCCEEDED
    assert Partner.objects.count() == 1


def test_two_deliveries_start_one_run() -> None:
    deliver()
    deliver()
    assert in_child(work) == 0
    deliver()
    assert in_child(work) == 0
    assert_one_delivery()
    request_id = WebhookEvent.objects.get().request_id
    assert request_id
    run = WorkflowRun.objects.get()
    assert run.request_id == request_id
    assert (run.started_by, run.started_by.partition(".")[0]) == (
        f"webhook:{handlers._handlers[0].name}",
        "webhook:tests",
    )


@pytest.mark.parametrize(
    ("owner", "point", "after", "count"),
    [
        (processing, "_run", False, 0),  # the event is claimed
        (runs, "_store", True, 0),  # the run is written in the handler's transaction
        (processing, "_run", True, 1),  # committed
        (processing, "_end_attempt", False, 1),
        (running, "carry_on", False, 1),  # the run is claimed
        (running, "carry_on", True, 1),
    ],
)
def test_a_worker_killed_on_the_way_starts_one_in_child(
    monkeypatch: pytest.MonkeyPatch, owner: Any, point: str, after: bool, count: int
) -> None:
    deliver()

    def work_and_die() -> None:
        monkeypatch.setattr(owner, point, dying(getattr(owner, point)) if after else die)
        work()

    assert in_child(work_and_die) == -signal.SIGKILL
    assert WorkflowRun.objects.count() == count
    let_leases_end()
    deliver()  # the provider is not sure either
    assert in_child(work) == 0
    assert_one_delivery()


@pytest.mark.parametrize(
    ("point", "after", "count"),
    [("_store", False, 0), ("wake", True, 0), ("commit", True, 1), ("told", True, 1)],
)
def test_whoever_starts_a_run_is_killed(monkeypatch: pytest.MonkeyPatch, point: str, after: bool, count: int) -> None:
    """A web process, say: the run was never started or is carried on, and asked again there is one."""

    def begin() -> WorkflowRun:
        return start("deliver", idempotency_key="order-7")

    def begin_and_die() -> None:
        if point in ("_store", "wake"):
            monkeypatch.setattr(runs, point, dying(getattr(runs, point)) if after else die)
        with transaction.atomic():
            begin()
            if point == "commit":
                transaction.on_commit(die)
        die()

    assert in_child(begin_and_die) == -signal.SIGKILL
    assert WorkflowRun.objects.count() == count
    assert in_child(begin) == 0
    assert WorkflowRun.objects.count() == 1
    assert in_child(sweep) == 0
    assert WorkflowRun.objects.get().state == RunState.SUCCEEDED
    assert Partner.objects.count() == 1
