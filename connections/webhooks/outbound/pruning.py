"""Forgets deliveries that are too old, with their attempts, events nobody is to be told of, and deleted endpoints."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from connections.batches import delete_in_batches, deletion
from connections.models import DeliveryAttempt, WebhookDelivery, WebhookEndpoint
from external_apis.ids import first_id
from external_apis.models import OutboxEvent, Tenant

__all__ = ["prune"]

_DELIVERIES, _ATTEMPTS, _OUTBOX, _ENDPOINTS, _TENANTS = (
    model._meta.db_table for model in (WebhookDelivery, DeliveryAttempt, OutboxEvent, WebhookEndpoint, Tenant)
)

_DELETE = f"""
WITH old AS ({{old}}), attempts AS (DELETE FROM {_ATTEMPTS} WHERE delivery_id IN (SELECT id FROM old))
DELETE FROM {_DELIVERIES} WHERE id IN (SELECT id FROM old)
"""  # noqa: S608 (our own tables' names)

# Ids are in the order of time: a delivery's begins with its event's. What is locked may be replayed at this moment, and
# so may what waits for an endpoint that is being switched on.
_DONE = _DELETE.format(
    old=f"""
    SELECT id FROM {_DELIVERIES} WHERE id < %(before)s AND due_at IS NULL
    ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    """  # noqa: S608
)

_WAITING_FOR_NOBODY = _DELETE.format(
    old=f"""
    SELECT delivery.id FROM {_DELIVERIES} AS delivery
    JOIN {_ENDPOINTS} AS endpoint ON endpoint.id = delivery.endpoint_id
    LEFT JOIN {_TENANTS} AS tenant ON tenant.id = endpoint.tenant_id
    WHERE delivery.id < %(before)s AND delivery.due_at IS NOT NULL
        AND NOT (endpoint.is_enabled AND coalesce(tenant.is_active, true))
    ORDER BY delivery.id LIMIT %(limit)s FOR UPDATE OF delivery SKIP LOCKED FOR SHARE OF endpoint SKIP LOCKED
    """  # noqa: S608
)

_OF_ENDPOINT = _DELETE.format(old=f"SELECT id FROM {_DELIVERIES} WHERE endpoint_id = %(endpoint)s LIMIT %(limit)s")  # noqa: S608

_EVENTS = f"""
DELETE FROM {_OUTBOX} WHERE id IN (
    SELECT id FROM {_OUTBOX} AS event
    WHERE id < %(before)s AND fanned_out_at IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM {_DELIVERIES} WHERE event_id = event.id)
    ORDER BY id LIMIT %(limit)s
)
"""  # noqa: S608


def prune() -> int:
    """Delete deliveries of events older than ``WEBHOOK_DELIVERIES_KEPT_DAYS``, and those events; returns how many.

    What still waits is kept; for an endpoint that is off, or whose tenant is, twice as long. Of an endpoint that was
    deleted everything goes, and at last its row.
    """
    gone = list(WebhookEndpoint.with_deleted.filter(deleted_at__isnull=False).values_list("pk", flat=True))
    count = sum(delete_in_batches(_removal(endpoint_id)) for endpoint_id in gone)
    kept = timedelta(days=settings.WEBHOOK_DELIVERIES_KEPT_DAYS)
    once, twice = timezone.now() - kept, timezone.now() - 2 * kept
    for statement, prefix, before in (
        (_DONE, "whd", once),
        (_WAITING_FOR_NOBODY, "whd", twice),
        (_EVENTS, "msg", once),
    ):
        count += delete_in_batches(deletion(statement, {"before": first_id(prefix, before)}))
    return count


def _removal(endpoint_id: str) -> Callable[[int], int]:
    """Return what deletes some deliveries of an endpoint that was deleted, and with the last ones the endpoint."""
    delete_some = deletion(_OF_ENDPOINT, {"endpoint": endpoint_id})

    def delete(limit: int) -> int:
        rows = WebhookEndpoint.with_deleted.filter(pk=endpoint_id)
        with transaction.atomic():
            # Whoever stores an attempt or fans out does it before, or finds nothing.
            if not rows.select_for_update().exists():
                return 0
            count = delete_some(limit)
            if count < limit:
                rows.delete()
        return count

    return delete
