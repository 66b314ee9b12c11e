"""Celery's shells: what they do is in the modules that they call."""

from __future__ import annotations

from celery import shared_task
from celery.signals import worker_ready
from django.conf import settings
from django.db import connection

from connections import first_grants, idempotent_calls, usage_pruning, usage_rollup
from connections.imports.django_oauth.writing_back import write_back_due
from connections.oauth import events, notices
from connections.oauth.recovery import recover_at_start
from connections.oauth.sweep import sweep
from connections.sweep_slots import in_slot
from connections.webhooks.inbound import processing
from connections.webhooks.inbound import pruning as event_pruning
from connections.webhooks.outbound import delivery
from connections.webhooks.outbound import pruning as delivery_pruning
from connections.workflows import pruning as run_pruning
from connections.workflows import running, schedules

_LONG_SECONDS, _STEP_SECONDS, _HANDLER_SECONDS = 120, 280, 110


@shared_task(name="connections.roll_up_usage")
def roll_up_usage() -> None:
    usage_rollup.roll_up()


@shared_task(name="connections.prune_usage")
def prune_usage() -> None:
    usage_pruning.prune()


@shared_task(name="connections.purge_idempotent_calls")
def purge_idempotent_calls() -> None:
    idempotent_calls.purge()


@shared_task(name="connections.refresh_due_tokens")
def refresh_due_tokens() -> None:
    first_grants.recover()
    sweep()


@shared_task(name="connections.write_back_tokens")
def write_back_tokens() -> None:
    in_slot("connections.write_back_tokens", 1, lambda _: write_back_due())


@shared_task(name="connections.send_notices")
def send_notices() -> None:
    notices.send_notices()


@shared_task(name="connections.prune_grant_events")
def prune_grant_events() -> None:
    events.prune()


# Twenty seconds for the sweep, and 110 for the handler that it has begun with: one that will not end is killed.
@shared_task(name="connections.process_webhook_events", time_limit=_HANDLER_SECONDS + 25)
def process_webhook_events() -> None:
    in_slot("connections.process_webhook_events", settings.INBOUND_SWEEPS, lambda _: processing.process_due())


@shared_task(name="connections.prune_webhook_events")
def prune_webhook_events() -> None:
    event_pruning.prune()


@shared_task(name="connections.deliver_webhooks")
def deliver_webhooks() -> None:
    in_slot(
        "connections.deliver_webhooks",
        settings.DELIVERY_SWEEPS,
        lambda _: delivery.deliver_due(seconds=_LONG_SECONDS),
    )


@shared_task(name="connections.prune_webhook_deliveries")
def prune_webhook_deliveries() -> None:
    delivery_pruning.prune()


# One that waits for steps that hang has left its slot, and has ended before the next one has to do the same: so there
# are never more than twice as many processes with workflows as there are slots.
@shared_task(name="connections.run_workflows", time_limit=2 * _STEP_SECONDS)
def run_workflows() -> None:
    in_slot(
        "connections.run_workflows",
        settings.WORKFLOW_SWEEPS,
        lambda leave: running.sweep(seconds=_STEP_SECONDS, leave=leave),
    )


@shared_task(name="connections.start_scheduled_workflows")
def start_scheduled_workflows() -> None:
    schedules.start_scheduled()


@shared_task(name="connections.prune_workflow_runs")
def prune_workflow_runs() -> None:
    run_pruning.prune()


@worker_ready.connect
def _apply_what_a_crash_left(**_: object) -> None:
    first_grants.recover_at_start()
    recover_at_start()
    connection.close()
