"""Notes what is to be told to others, in the transaction of the change: both are kept, or neither."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connection
from django.dispatch import Signal

from external_apis import bulk_insert, request_context
from external_apis.bulk_insert import MANY
from external_apis.event_types import EVENT_TYPES
from external_apis.models import AuditEvent, OutboxEvent

__all__ = ["build", "of_change", "write", "written"]

_OF_OTHERS = frozenset({"provider_data", "metadata"})
_MOST_NAMES, _LONGEST_NAME = 200, 200

written = Signal()
"""Sent within the transaction, without arguments, when there is something to fan out."""


def build(event_type: str, data: Mapping[str, Any], *, tenant_id: str | None) -> OutboxEvent:
    """Return an event with today's request that is not written yet, for `write`. ``data`` holds no secret."""
    return OutboxEvent(
        tenant_id=tenant_id, type=event_type, data=dict(data), request_id=request_context.current().request_id
    )


def of_change(event: AuditEvent) -> OutboxEvent:
    """Return what others are told of a change: which object, and the names of what was changed, but no values.

    Keys within somebody's own data are values as well, so of those columns only the column is named.
    """
    told = OutboxEvent(tenant_id=event.tenant_id, type=event.action, at=event.at, request_id=event.request_id)
    told.data = {
        "id": event.object_id,
        "objectType": event.object_type,
        "tenantId": event.tenant_id,
        "changed": sorted({_told_name(name) for name in event.changes})[:_MOST_NAMES],
        "requestId": event.request_id,
    }
    return told


def _told_name(path: str) -> str:
    column = path.partition(".")[0]
    return column if column in _OF_OTHERS else path[:_LONGEST_NAME]


def write(events: Sequence[OutboxEvent]) -> None:
    """Write those of the events that `EVENT_TYPES` names, in one query, in the transaction of what they tell of."""
    public = [event for event in events if event.type in EVENT_TYPES]
    if not public:
        return
    if not connection.in_atomic_block:
        raise RuntimeError("What is told to others belongs into the transaction of its change.")
    if len(public) < MANY:
        OutboxEvent.objects.bulk_create(public)
    else:
        bulk_insert.insert(public)
    written.send(OutboxEvent)
