"""Finding events again, processing them once more, and forgetting old ones."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from connections.models import EventStatus, WebhookEvent, WebhookRefusal
from connections.wakeups import wake
from connections.webhooks.inbound.receipt import PROCESS
from external_apis import audit
from external_apis.errors import Conflict, NotFound
from external_apis.ids import can_name
from external_apis.models import ExternalApi
from external_apis.tenancy import EVERYTHING, Scope

__all__ = ["find", "prune", "refusals_of", "replay", "visible"]


def visible(scope: Scope = EVERYTHING) -> QuerySet[WebhookEvent]:
    """The scope's own events, the latest first, with their providers; what came in them stays sealed."""
    return scope.own(WebhookEvent.objects.select_related("external_api"))


def find(row_id: str, scope: Scope = EVERYTHING) -> WebhookEvent:
    """Return an event by our id. Raises `NotFound`."""
    row = visible(scope).filter(pk=row_id).first() if can_name(row_id) else None
    if row is None:
        raise NotFound(f"Webhook event {row_id if can_name(row_id) else ascii(row_id)} not found")
    return row


def replay(row: WebhookEvent) -> WebhookEvent:
    """Have an event processed once more: of a dead one the handlers that failed, of another one all of them.

    They get the same idempotency keys as before. Raises `Conflict` for an event that is being tried as it is.
    """
    with transaction.atomic():
        row = WebhookEvent.objects.select_for_update(of=("self",)).select_related("external_api").get(pk=row.pk)
        if row.status == EventStatus.RECEIVED:
            raise Conflict(f"Webhook event {row.pk} is not processed yet; there is nothing to replay.")
        is_dead = row.status == EventStatus.DEAD
        done = {name: result for name, result in row.results.items() if result.get("status") == "done"}
        audit.record("webhook.replayed", row, {"status": [row.status, EventStatus.RECEIVED.value]})
        row.status, row.results = EventStatus.RECEIVED, done if is_dead else {}
        row.due_at, row.attempts, row.finished_at = timezone.now(), 0, None
        row.save(update_fields=["status", "results", "due_at", "attempts", "finished_at"])
        wake(PROCESS)
    return row


def refusals_of(api: ExternalApi) -> QuerySet[WebhookRefusal]:
    """Return why webhooks of a provider were refused, the latest first."""
    return WebhookRefusal.objects.filter(external_api=api)


def prune(batch_size: int = 5_000) -> int:
    """Delete events that ended more than ``WEBHOOK_EVENTS_KEPT_DAYS`` ago, and refusals that old; returns how many.

    What was sent again later than that would count as new.
    """
    before = timezone.now() - timedelta(days=settings.WEBHOOK_EVENTS_KEPT_DAYS)
    events = WebhookEvent._meta.db_table
    statement = (
        f"DELETE FROM {events} WHERE id IN (SELECT id FROM {events} "  # noqa: S608 (our own table's name)
        "WHERE received_at < %s AND due_at IS NULL ORDER BY id LIMIT %s)"
    )
    counts: list[int] = []
    while not counts or counts[-1] == batch_size:
        with connection.cursor() as cursor:
            cursor.execute(statement, [before, batch_size])
            counts.append(cursor.rowcount)
    return sum(counts) + WebhookRefusal.objects.filter(last_at__lt=before).delete()[0]
