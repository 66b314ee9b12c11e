"""Celery's shells of the backoffice: what they do is in the modules that they call."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from external_apis.backoffice import ai_usage_rollup, overview, resource_samples, resources, visit_rollup


@shared_task(name="backoffice.roll_up_ai_usage")
def roll_up_ai_usage() -> None:
    ai_usage_rollup.roll_up()


@shared_task(name="backoffice.roll_up_visits")
def roll_up_visits() -> None:
    visit_rollup.roll_up()


@shared_task(name="backoffice.prune_visits")
def prune_visits() -> None:
    visit_rollup.prune()


@shared_task(name="backoffice.roll_up_overview")
def roll_up_overview() -> None:
    overview.roll_up_overview(timezone.now())


@shared_task(name="backoffice.sample_resources")
def sample_resources() -> None:
    resource_samples.add_sample(resources.measure(), timezone.now())


@shared_task(name="backoffice.prune_analytics")
def prune_analytics() -> None:
    overview.prune_overview(timezone.now())
    resource_samples.prune_samples(timezone.now())
