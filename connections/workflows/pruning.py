"""Lets go of old runs, and soon of what they handed over."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from connections.models import WorkflowRun
from connections.workflows.handing_over import forget_left
from connections.workflows.runs import FINISHED

__all__ = ["prune"]

HANDED_OVER = timedelta(days=1)
"""How long what a run hands over waits to be taken."""
_BATCH = 100


def prune() -> int:
    """Delete runs that finished ``WORKFLOW_RUNS_KEPT_DAYS`` ago, in short transactions; return how many."""
    now = timezone.now()
    untaken = WorkflowRun.objects.filter(hands_over=True, state__in=FINISHED, finished_at__lt=now - HANDED_OVER)
    last = ""
    while ids := list(untaken.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:_BATCH]):
        forget_left(ids)
        last = ids[-1]  # those whose key is away have their turn another day
    count = 0
    old = WorkflowRun.objects.filter(
        state__in=FINISHED, finished_at__lt=now - timedelta(days=settings.WORKFLOW_RUNS_KEPT_DAYS)
    )
    while ids := list(old.order_by().values_list("pk", flat=True)[:_BATCH]):
        count += len(ids)
        WorkflowRun.objects.filter(pk__in=ids).delete()
    return count
