"""What people do with deliveries: send a test, look at what was sent, and have it sent again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from connections.models import DeliveryAttempt, DeliveryStatus, WebhookDelivery, WebhookEndpoint
from connections.webhooks.outbound.endpoints import locked
from connections.webhooks.outbound.fan_out import wake_worker
from external_apis import audit, outbox
from external_apis.errors import Conflict, NotFound
from external_apis.event_types import TEST
from external_apis.ids import can_name, first_id

__all__ = ["attempts_of", "deliveries_of", "find_delivery", "replay", "replay_since", "send_test"]

_BATCH = 5_000
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)


def deliveries_of(row: WebhookEndpoint) -> QuerySet[WebhookDelivery]:
    """Return an endpoint's deliveries, the latest first, each with its event."""
    return WebhookDelivery.objects.filter(endpoint=row).select_related("event").order_by("-pk")


def find_delivery(row: WebhookEndpoint, delivery_id: str) -> WebhookDelivery:
    """Return one of an endpoint's deliveries. Raises `NotFound`."""
    found = deliveries_of(row).filter(pk=delivery_id).first() if can_name(delivery_id) else None
    if found is None:
        raise NotFound(f"Webhook delivery {ascii(delivery_id)[1:-1]} not found")
    return found


def attempts_of(delivery: WebhookDelivery) -> QuerySet[DeliveryAttempt]:
    """Return the attempts at a delivery, the latest first."""
    return DeliveryAttempt.objects.filter(delivery=delivery).order_by("-pk")


def send_test(row: WebhookEndpoint) -> WebhookDelivery:
    """Have an event of the type ``test`` sent to this endpoint alone.

    Raises `Conflict` where it, or its tenant, is switched off.
    """
    with transaction.atomic():
        row = _sendable(row)
        facts = {"endpointId": row.pk, "tenantId": row.tenant_id}
        event = outbox.build(TEST, facts, tenant_id=row.tenant_id)
        event.fanned_out_at = timezone.now()
        event.save(force_insert=True)
        delivery = WebhookDelivery(endpoint=row, tenant_id=row.tenant_id, event=event, type=TEST, due_at=Now())
        delivery.save(force_insert=True)
        delivery.refresh_from_db(fields=["due_at"])
        audit.record("webhook_endpoint.tested", row, {"delivery_id": delivery.pk})
        wake_worker()
    return delivery


def replay(row: WebhookEndpoint, delivery: WebhookDelivery) -> WebhookDelivery:
    """Have a delivery made again from its first attempt on, under the same message id.

    Raises `Conflict` while it is under way, or where its endpoint or tenant is switched off.
    """
    with transaction.atomic():
        row = _sendable(row)
        if not _begin_anew(WebhookDelivery.objects.filter(pk=delivery.pk)):
            raise Conflict("The delivery is under way at this moment.")
        audit.record("webhook_endpoint.replayed", row, {"delivery_id": delivery.pk})
        wake_worker()
    return find_delivery(row, delivery.pk)


def replay_since(row: WebhookEndpoint, since: datetime, *, only_failed: bool = False) -> int:
    """Have all deliveries of events since a time made again, or those alone that have not succeeded.

    Those that are under way are left to it. Batch by batch, each with its audit event: what was begun anew before an
    error stays so. Returns how many it is. Raises `Conflict` where it, or its tenant, is switched off.
    """
    rows = WebhookDelivery.objects.filter(endpoint=row, event__at__gte=since)
    if only_failed:
        rows = rows.exclude(status=DeliveryStatus.DELIVERED)
    # Ids are in the order of time; an event may have been written some time after it was made.
    first, total = first_id("whd", max(since, _EARLIEST) - timedelta(days=1)), 0
    while True:
        ids = WebhookDelivery.objects.filter(endpoint=row, pk__gte=first).order_by("pk").values_list("pk", flat=True)
        after = ids[_BATCH : _BATCH + 1].first()
        batch = rows.filter(pk__gte=first) if after is None else rows.filter(pk__gte=first, pk__lt=after)
        with transaction.atomic():
            row = _sendable(row)
            count = _begin_anew(batch)
            if count or not (total or after):
                audit.record("webhook_endpoint.replayed", row, {"since": since.isoformat(), "deliveries": count})
            wake_worker()
        total += count
        if after is None:
            return total
        first = after


def _begin_anew(rows: QuerySet[WebhookDelivery]) -> int:
    # One whose worker has died is held, and due; what that worker might yet store is refused.
    free = rows.filter(Q(holder="") | Q(due_at__lte=Now()))
    return free.update(
        status=DeliveryStatus.PENDING, due_at=Now(), attempts=0, holder="", delivered_at=None, fence=F("fence") + 1
    )


def _sendable(row: WebhookEndpoint) -> WebhookEndpoint:
    """Return the endpoint as it is now, of which nothing is claimed until the transaction ends. Raises `Conflict`."""
    row = locked(row)
    if not row.is_enabled:
        raise Conflict("The webhook endpoint is switched off.")
    if row.tenant is not None and not row.tenant.is_active:
        raise Conflict("The webhook endpoint's tenant is switched off.")
    return row
