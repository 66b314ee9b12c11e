"""Celery's shells: what they do is in the modules that they call."""

from __future__ import annotations

from celery import shared_task

from connections import idempotent_calls, usage_rollup


@shared_task(name="connections.roll_up_usage")
def roll_up_usage() -> None:
    usage_rollup.roll_up()


@shared_task(name="connections.purge_idempotent_calls")
def purge_idempotent_calls() -> None:
    idempotent_calls.purge()
