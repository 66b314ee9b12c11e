"""Forgets deliveries that are too old, with their attempts, and events that nobody was to be told of any more."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import connection as database
from django.utils import timezone

from connections.models import DeliveryAttempt, WebhookDelivery
from external_apis.ids import first_id
from external_apis.models import OutboxEvent

__all__ = ["prune"]

_BATCH = 5_000
_MOST_BATCHES = 200  # in one run: the rest is for the next
_DELIVERIES, _ATTEMPTS, _OUTBOX = (model._meta.db_table for model in (WebhookDelivery, DeliveryAttempt, OutboxEvent))

# Ids are in the order of time: a delivery's begins with its event's.
_PRUNE_DELIVERIES = f"""
WITH old AS (SELECT id FROM {_DELIVERIES} WHERE id < %(before)s ORDER BY id LIMIT %(limit)s),
    attempts AS (DELETE FROM {_ATTEMPTS} WHERE delivery_id IN (SELECT id FROM old))
DELETE FROM {_DELIVERIES} WHERE id IN (SELECT id FROM old)
"""  # noqa: S608 (our own tables' names)

_PRUNE_EVENTS = f"""
DELETE FROM {_OUTBOX} WHERE id IN (
    SELECT id FROM {_OUTBOX} AS event
    WHERE id < %(before)s AND fanned_out_at IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM {_DELIVERIES} WHERE event_id = event.id)
    ORDER BY id LIMIT %(limit)s
)
"""  # noqa: S608


def prune() -> int:
    """Delete deliveries of events older than ``WEBHOOK_DELIVERIES_KEPT_DAYS``, and those events; returns how many."""
    before = timezone.now() - timedelta(days=settings.WEBHOOK_DELIVERIES_KEPT_DAYS)
    return _delete(_PRUNE_DELIVERIES, first_id("whd", before)) + _delete(_PRUNE_EVENTS, first_id("msg", before))


def _delete(statement: str, before: str) -> int:
    total = 0
    for _ in range(_MOST_BATCHES):
        with database.cursor() as cursor:
            cursor.execute(statement, {"before": before, "limit": _BATCH})
            count = cursor.rowcount
        total += count
        if count < _BATCH:
            break
    return total
