"""Has events processed once more."""

from __future__ import annotations

from django.db import transaction
from django.db.models.functions import Now

from connections.models import EventStatus, WebhookEvent
from connections.wakeups import wake
from connections.webhooks.inbound.processing import LEASE
from connections.webhooks.inbound.receipt import PROCESS
from external_apis import audit
from external_apis.errors import Conflict

__all__ = ["replay"]


def replay(row: WebhookEvent) -> WebhookEvent:
    """Have an event processed once more: of a dead one the handlers that failed, of another one all of them.

    They get the same idempotency keys as before. One that waits to be tried again is tried now. Raises `Conflict` for
    an event that is being tried, or soon will be.
    """
    with transaction.atomic():
        row = WebhookEvent.objects.select_for_update(of=("self",)).select_related("external_api").get(pk=row.pk)
        if row.status == EventStatus.RECEIVED:
            _try_now(row)
            return row
        is_dead = row.status == EventStatus.DEAD
        done = {name: result for name, result in row.results.items() if result.get("status") == "done"}
        audit.record("webhook.replayed", row, {"status": [row.status, EventStatus.RECEIVED.value]})
        row.status, row.results = EventStatus.RECEIVED, done if is_dead else {}
        row.attempts, row.finished_at = 0, None
        row.save(update_fields=["status", "results", "attempts", "finished_at"])
        WebhookEvent.objects.filter(pk=row.pk).update(due_at=Now())
        row.refresh_from_db(fields=["due_at"])
        wake(PROCESS)
    return row


def _try_now(row: WebhookEvent) -> None:
    # Nobody is at work on one that is due later than any lease ends.
    if not WebhookEvent.objects.filter(pk=row.pk, due_at__gt=Now() + LEASE).update(due_at=Now()):
        raise Conflict(f"Webhook event {row.pk} is not processed yet, and is tried within {LEASE.seconds} s as it is.")
    audit.record("webhook.replayed", row, {"attempts": [row.attempts, row.attempts + 1]})
    row.refresh_from_db(fields=["due_at"])
    wake(PROCESS)
