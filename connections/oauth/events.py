"""What happened to grants: one row for each thing, a signal for those that matter to people, and an end to old ones."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from django.db import connection as database
from django.db import transaction
from django.utils import timezone

from connections.batches import delete_in_batches, deletion
from connections.models import ExternalApiConnection, GrantEvent
from connections.signals import grant_changed
from external_apis import outbox, request_context
from external_apis.models import OutboxEvent

__all__ = ["INCIDENTS", "build", "prune", "record", "store"]

INCIDENTS = frozenset({"expiring_soon", "expired", "revoked", "in_doubt", "needs_reauthorization", "renewal_failing"})
"""The kinds that somebody has to know of: each is signalled, and mailed to the connection's owner once."""

_SIGNALLED = INCIDENTS | {"restored"}
_ROUTINE = ("refreshed", "refresh_failed")
_MAX_MESSAGE = 1_000


def record(
    connection: ExternalApiConnection, kind: str, *, cause: str, outcome: str, message: str = "", mail_due: bool = False
) -> GrantEvent:
    """Write one event about a connection's grant, and signal it after the commit where its kind matters to people.

    ``cause`` is what led to it (``schedule``, ``use``, ``unauthorized``, ``manual``, ``callback``, ``recovery``, …),
    ``outcome`` is ``succeeded``, ``failed`` or ``pending``. The message holds no secret.
    """
    event = build(
        connection.pk, connection.tenant_id, kind, cause=cause, outcome=outcome, message=message, mail_due=mail_due
    )
    store([event])
    return event


def build(
    connection_id: str,
    tenant_id: str | None,
    kind: str,
    *,
    cause: str,
    outcome: str,
    message: str = "",
    mail_due: bool = False,
) -> GrantEvent:
    """Return an event with today's actor and request, not stored yet."""
    context = request_context.current()
    return GrantEvent(
        connection_id=connection_id,
        tenant_id=tenant_id,
        kind=kind,
        cause=cause,
        outcome=outcome,
        message=message.replace("\0", "")[:_MAX_MESSAGE],
        actor=context.actor or "system",
        request_id=context.request_id,
        mail_due=mail_due,
    )


def store(events: Sequence[GrantEvent]) -> None:
    """Insert events in one query, tell the outbox of them, and signal after the commit those that matter to people."""
    if not events:
        return
    with transaction.atomic():
        GrantEvent.objects.bulk_create(events)
        outbox.write([_told(event) for event in events])
    for event in events:
        if event.kind in _SIGNALLED:
            transaction.on_commit(partial(_signal, event.pk, event.connection_id, event.kind))


def prune(kept: timedelta = timedelta(days=30), batch_size: int = 5_000) -> int:
    """Delete renewals and failed attempts older than ``kept``, batch by batch; what mattered to people stays."""
    table = database.ops.quote_name(GrantEvent._meta.db_table)
    statement = (
        f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} "  # noqa: S608 (our own table's name)
        "WHERE kind = ANY(%(kinds)s) AND at < %(before)s ORDER BY id LIMIT %(limit)s)"
    )
    values = {"kinds": list(_ROUTINE), "before": timezone.now() - kept}
    return delete_in_batches(deletion(statement, values), size=batch_size)


def _told(event: GrantEvent) -> OutboxEvent:
    facts = {
        "connectionId": event.connection_id,
        "tenantId": event.tenant_id,
        "cause": event.cause,
        "outcome": event.outcome,
        "requestId": event.request_id,
    }
    return outbox.build(f"grant.{event.kind}", facts, tenant_id=event.tenant_id)


def _signal(event_id: str, connection_id: str, kind: str) -> None:
    grant_changed.send_robust(GrantEvent, event_id=event_id, connection_id=connection_id, kind=kind)
