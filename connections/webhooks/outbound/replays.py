"""What people do with deliveries: send a test, look at what was sent, and have it sent again."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from connections.models import DeliveryAttempt, DeliveryStatus, WebhookDelivery, WebhookEndpoint
from connections.webhooks.outbound.fan_out import wake_worker
from external_apis import audit, outbox
from external_apis.errors import Conflict, NotFound
from external_apis.event_types import TEST
from external_apis.ids import can_name

__all__ = ["attempts_of", "deliveries_of", "find_delivery", "replay", "replay_since", "send_test"]


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
    """Have an event of the type ``test`` sent to this endpoint alone. Raises `Conflict` where it is switched off."""
    with transaction.atomic():
        row = _locked(row)
        facts = {"endpointId": row.pk, "tenantId": row.tenant_id}
        event = outbox.build(TEST, facts, tenant_id=row.tenant_id)
        event.fanned_out_at = timezone.now()
        event.save(force_insert=True)
        delivery = WebhookDelivery(endpoint=row, tenant_id=row.tenant_id, event=event, type=TEST, due_at=timezone.now())
        delivery.save(force_insert=True)
        audit.record("webhook_endpoint.tested", row, {"delivery_id": delivery.pk})
        wake_worker()
    return delivery


def replay(row: WebhookEndpoint, delivery: WebhookDelivery) -> WebhookDelivery:
    """Have a delivery made again from its first attempt on, under the same message id.

    Raises `Conflict` while it is under way, or where its endpoint is switched off.
    """
    with transaction.atomic():
        row = _locked(row)
        if not _begin_anew(WebhookDelivery.objects.filter(pk=delivery.pk)):
            raise Conflict("The delivery is under way at this moment.")
        audit.record("webhook_endpoint.replayed", row, {"delivery_id": delivery.pk})
        wake_worker()
    return find_delivery(row, delivery.pk)


def replay_since(row: WebhookEndpoint, since: datetime, *, only_failed: bool = False) -> int:
    """Have all deliveries of events since a time made again, or those alone that have not succeeded.

    Those that are under way are left to it. Returns how many it is. Raises `Conflict` for an endpoint that is switched
    off.
    """
    rows = WebhookDelivery.objects.filter(endpoint=row, event__at__gte=since)
    if only_failed:
        rows = rows.exclude(status=DeliveryStatus.DELIVERED)
    with transaction.atomic():
        row = _locked(row)
        count = _begin_anew(rows)
        audit.record("webhook_endpoint.replayed", row, {"since": since.isoformat(), "deliveries": count})
        wake_worker()
    return count


def _begin_anew(rows: QuerySet[WebhookDelivery]) -> int:
    now = timezone.now()
    # One whose worker has died is held, and due; what that worker might yet store is refused.
    free = rows.filter(Q(holder="") | Q(due_at__lte=now))
    return free.update(
        status=DeliveryStatus.PENDING, due_at=now, attempts=0, holder="", delivered_at=None, fence=F("fence") + 1
    )


def _locked(row: WebhookEndpoint) -> WebhookEndpoint:
    """Return the endpoint as it is now, of which nothing is claimed until the transaction ends."""
    found = WebhookEndpoint.objects.select_for_update(no_key=True).filter(pk=row.pk).first()
    if found is None:
        raise NotFound(f"Webhook endpoint {row.pk} not found")
    if not found.is_enabled:
        raise Conflict("The webhook endpoint is switched off.")
    return found
