"""Makes of each event in the outbox a delivery for each endpoint that wants it, many events in one statement.

How many is bounded by the deliveries that there may be of them, as a statement has two seconds: the same worker sends.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from django.db import connection as database
from django.db import transaction

from connections.models import WebhookDelivery, WebhookEndpoint
from connections.wakeups import wake
from external_apis.event_types import EVENT_TYPES, matching_filters
from external_apis.models import OutboxEvent, Tenant

__all__ = ["ROWS", "STATEMENT_SECONDS", "TASK", "Pace", "fan_out", "wake_worker"]

TASK = "connections.deliver_webhooks"

ROWS = 5_000
"""How many deliveries a statement makes at most, but for all of one event."""

STATEMENT_SECONDS = 2.0

_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.5, 10.0
_MOST_EVENTS = 2_000
_OUTBOX, _DELIVERIES, _ENDPOINTS = (model._meta.db_table for model in (OutboxEvent, WebhookDelivery, WebhookEndpoint))

# Of each tenant's events (and of those of none) as many as make its share of the rows, the oldest first; an event goes
# to the tenant's endpoints and to those that are told of everybody's. The recursion jumps from tenant to tenant in the
# index of what waits, however much that is.
#
# A delivery's id is a time-ordered one: its event's time, then random digits. An endpoint whose row is being removed is
# waited for, and then is none.
_FAN_OUT = f"""
WITH RECURSIVE waiting (owner) AS (
    (SELECT coalesce(tenant_id, '') AS owner FROM {_OUTBOX} WHERE fanned_out_at IS NULL ORDER BY 1 LIMIT 1)
    UNION ALL
    SELECT (
        SELECT coalesce(tenant_id, '') AS owner FROM {_OUTBOX}
        WHERE fanned_out_at IS NULL AND coalesce(tenant_id, '') > waiting.owner ORDER BY 1 LIMIT 1
    )
    FROM waiting WHERE waiting.owner IS NOT NULL
), told_of AS MATERIALIZED (
    SELECT coalesce(tenant_id, '') AS owner, count(*) AS number FROM {_ENDPOINTS} WHERE is_enabled GROUP BY 1
), share AS (
    SELECT waiting.owner, (
        SELECT greatest(1, coalesce(sum(number), 0))::bigint FROM told_of WHERE told_of.owner IN ('', waiting.owner)
    ) AS cost, %(rows)s / count(*) OVER () AS rows
    FROM waiting WHERE waiting.owner IS NOT NULL
), found AS (
    SELECT event.*, share.cost, row_number() OVER (PARTITION BY share.owner ORDER BY event.id) AS turn
    FROM share CROSS JOIN LATERAL (
        SELECT id, tenant_id, type FROM {_OUTBOX}
        WHERE fanned_out_at IS NULL AND coalesce(tenant_id, '') = share.owner
        ORDER BY id LIMIT greatest(1, share.rows / share.cost)
        FOR UPDATE SKIP LOCKED
    ) AS event
), taken AS (
    SELECT id, tenant_id, type FROM (
        SELECT *, row_number() OVER turns AS place, sum(cost) OVER turns AS total
        FROM found WINDOW turns AS (ORDER BY turn, id)
    ) AS placed
    WHERE place = 1 OR place <= %(most_events)s AND total <= %(rows)s
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


@dataclass(slots=True)
class Pace:
    """How many deliveries are made in a statement: half as many after one that fails, and as many again later.

    A first failure is followed by another try at once, the next ones by longer and longer waits, until ``not_before``
    by the monotonic clock. Each process has one, for all its sweeps.
    """

    rows: int = ROWS
    not_before: float = 0.0
    _wait: float = 0.0

    @property
    def is_waiting(self) -> bool:
        return time.monotonic() < self.not_before

    def slow_down(self) -> None:
        """After a failure."""
        self.rows = max(1, self.rows // 2)
        self.not_before = time.monotonic() + self._wait
        self._wait = min(max(_FIRST_WAIT_SECONDS, 2 * self._wait), _LONGEST_WAIT_SECONDS)

    def speed_up(self) -> None:
        """After a success."""
        self.rows, self._wait = min(2 * self.rows, ROWS), 0.0


def fan_out(rows: int = ROWS) -> int:
    """Make up to ``rows`` deliveries of events that have none yet; returns how many events these were.

    What no endpoint wants is deleted; those of a tenant that is switched off want nothing. Several at the same time
    take different events; nothing is made twice, and an event's deliveries are made together. Raises OperationalError
    when it takes longer than `STATEMENT_SECONDS`.
    """
    values: dict[str, Any] = {
        "rows": rows,
        "most_events": _MOST_EVENTS,
        "types": [name for name, _ in _PASSED],
        "filters": [passed for _, passed in _PASSED],
    }
    with transaction.atomic(), database.cursor() as cursor:
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{STATEMENT_SECONDS * 1000:.0f}ms"])
        cursor.execute(_FAN_OUT, values)
        taken, _ = cursor.fetchone()
    return int(taken)


def wake_worker(**_: object) -> None:
    """Have a worker look at the outbox after the present transaction's commit."""
    wake(TASK)
