"""Celery's shells of the backoffice: what they do is in the modules that they call."""

from __future__ import annotations

from celery import shared_task

from external_apis.backoffice import ai_usage_rollup, visit_rollup


@shared_task(name="backoffice.roll_up_ai_usage")
def roll_up_ai_usage() -> None:
    ai_usage_rollup.roll_up()


@shared_task(name="backoffice.roll_up_visits")
def roll_up_visits() -> None:
    visit_rollup.roll_up()


@shared_task(name="backoffice.prune_visits")
def prune_visits() -> None:
    visit_rollup.prune()
