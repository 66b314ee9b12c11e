"""Makes of each event in the outbox a delivery for each endpoint that wants it, many events in one statement.

How many is bounded by the deliveries that there may be of them, as a statement has ten seconds.
"""

from __future__ import annotations

from typing import Any

from django.db import connection as database

from connections.models import WebhookDelivery, WebhookEndpoint
from connections.wakeups import wake
from external_apis.event_types import EVENT_TYPES, matching_filters
from external_apis.models import OutboxEvent, Tenant

__all__ = ["ROWS", "TASK", "fan_out", "wake_worker"]

TASK = "connections.deliver_webhooks"

ROWS = 5_000
"""How many deliveries a statement makes at most, but for all of one event."""

_MOST_EVENTS = 2_000
_OUTBOX, _DELIVERIES, _ENDPOINTS = (model._meta.db_table for model in (OutboxEvent, WebhookDelivery, WebhookEndpoint))

# An event goes to those endpoints that are told of everybody's, and to one tenant's.
_MOST_OF_ONE_EVENT = f"""
SELECT coalesce(sum(number) FILTER (WHERE tenant_id IS NULL), 0)
    + coalesce(max(number) FILTER (WHERE tenant_id IS NOT NULL), 0) AS number
FROM (SELECT tenant_id, count(*) AS number FROM {_ENDPOINTS} WHERE is_enabled GROUP BY tenant_id) AS owner
"""  # noqa: S608 (our own tables' names)

# A delivery's id is a time-ordered one: its event's time, then random digits. An endpoint whose row is being removed is
# waited for, and then is none.
_FAN_OUT = f"""
WITH taken AS (
    SELECT id, tenant_id, type FROM {_OUTBOX}
    WHERE fanned_out_at IS NULL ORDER BY id
    LIMIT (
        SELECT least(%(most_events)s, greatest(1, %(rows)s / greatest(1, most.number)))::bigint
        FROM ({_MOST_OF_ONE_EVENT}) AS most
    )
    FOR UPDATE SKIP LOCKED
), made AS (
    INSERT INTO {_DELIVERIES} (
        id, endpoint_id, tenant_id, event_id, type, status, holder, created_at, due_at, fence, attempts, last_error
    )
    SELECT 'whd_' || substr(taken.id, 5, 10) || left(replace(gen_random_uuid()::text, '-', ''), 16),
        endpoint.id, endpoint.tenant_id, taken.id, taken.type, 'pending', '', statement_timestamp(),
        statement_timestamp(), 0, 0, ''
    FROM taken
    JOIN unnest(%(types)s::text[], %(filters)s::text[]) AS wanted (type, filter) ON wanted.type = taken.type
    JOIN {_ENDPOINTS} AS endpoint
        ON wanted.filter = ANY(endpoint.events)
        AND endpoint.is_enabled
        AND (endpoint.tenant_id IS NULL OR endpoint.tenant_id = taken.tenant_id)
        AND NOT EXISTS (
            SELECT 1 FROM {Tenant._meta.db_table} AS owner WHERE owner.id = endpoint.tenant_id AND NOT owner.is_active
        )
    FOR KEY SHARE OF endpoint
    ON CONFLICT (event_id, endpoint_id) DO NOTHING
    RETURNING event_id
), told AS (
    UPDATE {_OUTBOX} SET fanned_out_at = statement_timestamp() WHERE id IN (SELECT event_id FROM made)
), unwanted AS (
    DELETE FROM {_OUTBOX} WHERE id IN (SELECT id FROM taken EXCEPT SELECT event_id FROM made)
)
SELECT (SELECT count(*) FROM taken), (SELECT count(*) FROM made)
"""  # noqa: S608 (our own tables' names)

_PASSED = [(name, passed) for name in EVENT_TYPES for passed in matching_filters(name)]


def fan_out(rows: int = ROWS) -> int:
    """Make up to ``rows`` deliveries of events that have none yet; returns how many events these were.

    What no endpoint wants is deleted; those of a tenant that is switched off want nothing. Several at the same time
    take different events; nothing is made twice, and an event's deliveries are made together.
    """
    values: dict[str, Any] = {
        "rows": rows,
        "most_events": _MOST_EVENTS,
        "types": [name for name, _ in _PASSED],
        "filters": [passed for _, passed in _PASSED],
    }
    with database.cursor() as cursor:
        cursor.execute(_FAN_OUT, values)
        taken, _ = cursor.fetchone()
    return int(taken)


def wake_worker(**_: object) -> None:
    """Have a worker look at the outbox after the present transaction's commit."""
    wake(TASK)
