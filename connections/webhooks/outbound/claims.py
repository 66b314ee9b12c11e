"""Takes due deliveries, and stores how they ended.

An endpoint's deliveries are claimed by one sweep at a time: whoever has some of them under way locks the others out
until the last has ended or its lease is over. So the number of requests that one receiver gets at a time is what one
sweep allows it, over all processes. Tenants take turns, and of a tenant the endpoints: who was served longest ago is
first. Leases and waits go by the database's clock, which all workers share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection as database
from django.db import transaction

from connections.models import DeliveryAttempt, DeliveryStatus, WebhookDelivery, WebhookEndpoint
from external_apis.models import Tenant

__all__ = ["LEASE", "Ending", "Health", "claim", "note_health", "release", "settle", "versions"]

LEASE = timedelta(seconds=60)

_ENDPOINTS, _DELIVERIES = WebhookEndpoint._meta.db_table, WebhookDelivery._meta.db_table
_TENANTS = Tenant._meta.db_table

_HELD = f"""
SELECT 1 FROM {_DELIVERIES} AS held
WHERE held.endpoint_id = {{endpoint}} AND held.holder <> '' AND held.holder <> %(holder)s
    AND held.due_at > statement_timestamp()
"""  # noqa: S608 (our own table's name)

_MAY_BE_SENT_TO = f"""
endpoint.is_enabled AND NOT EXISTS (
    SELECT 1 FROM {_TENANTS} AS tenant WHERE tenant.id = endpoint.tenant_id AND NOT tenant.is_active
)
"""  # noqa: S608

# The recursion jumps from endpoint to endpoint in the index of what waits, however much that is.
_CHOOSE = f"""
WITH RECURSIVE waiting (id) AS (
    (SELECT endpoint_id FROM {_DELIVERIES} WHERE due_at IS NOT NULL ORDER BY endpoint_id LIMIT 1)
    UNION ALL
    SELECT (
        SELECT endpoint_id FROM {_DELIVERIES}
        WHERE due_at IS NOT NULL AND endpoint_id > waiting.id ORDER BY endpoint_id LIMIT 1
    )
    FROM waiting WHERE waiting.id IS NOT NULL
), ready AS (
    SELECT endpoint.id, endpoint.tenant_id, endpoint.served_at,
        row_number() OVER (PARTITION BY endpoint.tenant_id ORDER BY endpoint.served_at NULLS FIRST) AS turn,
        max(endpoint.served_at) OVER (PARTITION BY endpoint.tenant_id) AS tenant_served_at
    FROM {_ENDPOINTS} AS endpoint
    CROSS JOIN LATERAL (
        SELECT FROM {_DELIVERIES}
        WHERE endpoint_id = endpoint.id AND due_at <= statement_timestamp() ORDER BY due_at LIMIT 1
    ) AS first
    WHERE endpoint.id IN (SELECT id FROM waiting)
        AND {_MAY_BE_SENT_TO}
        AND (endpoint.is_slow OR endpoint.failing_since IS NOT NULL) = %(troubled)s
        AND NOT endpoint.id = ANY(%(passed)s)
        AND NOT EXISTS ({_HELD.format(endpoint="endpoint.id")})
), chosen AS (
    SELECT endpoint.id FROM ready
    JOIN {_ENDPOINTS} AS endpoint ON endpoint.id = ready.id
    LEFT JOIN unnest(%(tenants)s::text[], %(served)s::int[]) AS busy (tenant_id, number)
        ON busy.tenant_id IS NOT DISTINCT FROM ready.tenant_id
    ORDER BY ready.turn + coalesce(busy.number, 0), ready.tenant_served_at NULLS FIRST, ready.served_at NULLS FIRST
    LIMIT %(limit)s
    FOR NO KEY UPDATE OF endpoint SKIP LOCKED
)
UPDATE {_ENDPOINTS} AS endpoint SET served_at = statement_timestamp()
FROM chosen WHERE endpoint.id = chosen.id
RETURNING endpoint.id
"""  # noqa: S608 (our own tables' names)

# Another statement, which sees what was claimed before the endpoints were locked.
_CLAIM = f"""
UPDATE {_DELIVERIES} AS row
SET due_at = statement_timestamp() + %(lease)s, holder = %(holder)s, fence = row.fence + 1, attempts = row.attempts + 1
FROM (
    SELECT free.id FROM unnest(%(endpoints)s::text[], %(lots)s::int[]) AS chosen (endpoint_id, lot)
    CROSS JOIN LATERAL (
        SELECT id FROM {_DELIVERIES}
        WHERE endpoint_id = chosen.endpoint_id AND due_at <= statement_timestamp() ORDER BY due_at LIMIT chosen.lot
    ) AS free
    WHERE NOT EXISTS ({_HELD.format(endpoint="chosen.endpoint_id")})
) AS free
WHERE row.id = free.id
RETURNING row.id
"""  # noqa: S608

_SETTLE = f"""
UPDATE {_DELIVERIES} AS row
SET status = new.status, due_at = statement_timestamp() + new.wait, holder = '',
    delivered_at = CASE WHEN new.status = 'delivered' THEN statement_timestamp() END,
    last_status = new.answered, last_error = new.error
FROM unnest(
    %s::text[], %s::bigint[], %s::text[], %s::interval[], %s::int[], %s::text[]
) AS new (id, fence, status, wait, answered, error)
WHERE row.id = new.id AND row.fence = new.fence
RETURNING row.id
"""  # noqa: S608

_KEEP = f"SELECT id FROM {_ENDPOINTS} WHERE id = ANY(%s) ORDER BY id FOR KEY SHARE"  # noqa: S608

_SENDABLE = f"""
SELECT id, updated_at FROM {_ENDPOINTS} AS endpoint WHERE id = ANY(%s) AND {_MAY_BE_SENT_TO}
"""  # noqa: S608

_RELEASE = f"""
UPDATE {_DELIVERIES} AS row SET due_at = statement_timestamp(), holder = '', attempts = row.attempts - 1
FROM unnest(%s::text[], %s::bigint[]) AS new (id, fence) WHERE row.id = new.id AND row.fence = new.fence
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Health:
    """Since when an endpoint fails, at its first failure after a success, and whether one of its last answers was slow.

    ``quick_answers`` is how many have been quick since then.
    """

    failing_since: datetime | None = None
    is_slow: bool = False
    quick_answers: int = 0

    @property
    def is_troubled(self) -> bool:
        return self.is_slow or self.failing_since is not None


@dataclass(slots=True)
class Ending:
    """How one attempt at a delivery ended; ``wait`` is how long after it the next one is, None after the last."""

    delivery: WebhookDelivery
    attempt: DeliveryAttempt
    status: DeliveryStatus
    wait: timedelta | None

    @property
    def is_success(self) -> bool:
        return self.status == DeliveryStatus.DELIVERED


def claim(
    holder: str,
    lots: Mapping[str, int],
    *,
    lot: int,
    endpoints: int,
    passed: Sequence[str],
    troubled: bool,
    busy: Mapping[str | None, int] | None = None,
) -> list[WebhookDelivery]:
    """Take due deliveries of up to so many endpoints, each with its event and endpoint, the longest overdue first.

    ``lots`` tells how many of an endpoint's, ``lot`` how many of one that it does not name. Those in ``passed`` are
    left out, and so are endpoints that fail or are slow at present, or else all others. ``busy`` tells of how many
    endpoints of a tenant something is under way here: so many turns it has had.
    """
    busy = busy or {}
    with transaction.atomic(), database.cursor() as cursor:
        values: dict[str, Any] = {"troubled": troubled, "holder": holder, "lease": LEASE}
        turns: dict[str, Any] = {"tenants": list(busy), "served": list(busy.values())}
        cursor.execute(_CHOOSE, {**values, **turns, "passed": list(passed), "limit": endpoints})
        chosen = [endpoint_id for (endpoint_id,) in cursor.fetchall()]
        if not chosen:
            return []
        sizes = [lots.get(endpoint_id, lot) for endpoint_id in chosen]
        cursor.execute(_CLAIM, {**values, "endpoints": chosen, "lots": sizes})
        taken = [delivery_id for (delivery_id,) in cursor.fetchall()]
    rows = WebhookDelivery.objects.filter(pk__in=taken, holder=holder)
    return list(rows.select_related("event", "endpoint").order_by("pk")) if taken else []


def settle(endings: Sequence[Ending]) -> set[str]:
    """Store how attempts ended, with the attempts; returns the ids of those that nobody has overtaken."""
    columns = zip(
        *(
            (
                ending.delivery.pk,
                ending.delivery.fence,
                ending.status.value,
                ending.wait,
                ending.attempt.status,
                ending.attempt.error,
            )
            for ending in endings
        ),
        strict=True,
    )
    with transaction.atomic():
        with database.cursor() as cursor:
            # Whoever deletes an endpoint does it before or after, as no attempt may be stored in between.
            cursor.execute(_KEEP, [[ending.delivery.endpoint_id for ending in endings]])
            cursor.execute(_SETTLE, [list(column) for column in columns])
            stored = {delivery_id for (delivery_id,) in cursor.fetchall()}
        DeliveryAttempt.objects.bulk_create(ending.attempt for ending in endings if ending.delivery.pk in stored)
    return stored


def release(deliveries: Sequence[WebhookDelivery]) -> None:
    """Give back what was claimed and not sent."""
    if deliveries:
        ids, fences = [row.pk for row in deliveries], [row.fence for row in deliveries]
        with database.cursor() as cursor:
            cursor.execute(_RELEASE, [ids, fences])


def versions(endpoint_ids: Sequence[str]) -> dict[str, datetime]:
    """Return when each of these endpoints was changed last; those that nothing may be sent to now are left out."""
    with database.cursor() as cursor:
        cursor.execute(_SENDABLE, [list(endpoint_ids)])
        return dict(cursor.fetchall())


def note_health(sent: WebhookEndpoint, health: Health) -> bool:
    """Note how an endpoint does from now on; False, and nothing noted, where it was changed since it was claimed."""
    rows = WebhookEndpoint.objects.filter(pk=sent.pk, updated_at=sent.updated_at)
    return rows.update(**asdict(health)) > 0
