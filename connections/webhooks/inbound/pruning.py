"""Forgets events that ended too long ago, and refusals that nobody has repeated since."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from connections.batches import delete_in_batches, deletion
from connections.models import WebhookEvent, WebhookRefusal
from external_apis.ids import first_id

__all__ = ["prune"]

_EVENTS = WebhookEvent._meta.db_table

# Ids are in the order of time, so the oldest stand together at one end of their index.
_PRUNE = f"""
DELETE FROM {_EVENTS} WHERE id IN (
    SELECT id FROM {_EVENTS}
    WHERE id < %(first)s AND due_at IS NULL AND finished_at < %(before)s ORDER BY id LIMIT %(limit)s
)
"""  # noqa: S608 (our own table's name)


def prune() -> int:
    """Delete events that ended more than ``WEBHOOK_EVENTS_KEPT_DAYS`` ago, and refusals that old; returns how many.

    Events that are still being tried are kept, and dead ones as long after their end as others. What a
    provider sends again later than that counts as new.
    """
    before = timezone.now() - timedelta(days=settings.WEBHOOK_EVENTS_KEPT_DAYS)
    count = delete_in_batches(deletion(_PRUNE, {"first": first_id("wev", before), "before": before}))
    return count + WebhookRefusal.objects.filter(last_at__lt=before).delete()[0]
