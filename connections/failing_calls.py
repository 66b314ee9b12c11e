"""Decides from the figures of the last minutes whether a connection's calls fail, and tells when that changes.

Not per call: one that fails among many is nothing to tell of, and a connection that is down would be told of for each.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from django.db import connection as database
from django.db.models import Exists, OuterRef
from django.utils import timezone

from connections.client import measures
from connections.client.measures import Bag
from connections.models import CallPeriod, ExternalApiConnection, FailingCalls, Step
from external_apis import outbox
from external_apis.models import OutboxEvent

__all__ = ["WINDOW", "judge"]

WINDOW = timedelta(minutes=5)

_FAILING = FailingCalls._meta.db_table
_BEGIN = f"""
INSERT INTO {_FAILING} (connection_id, tenant_id, since)
SELECT id, tenant_id, now() FROM {ExternalApiConnection._meta.db_table} WHERE id = ANY(%s) ORDER BY id
ON CONFLICT DO NOTHING RETURNING connection_id
"""  # noqa: S608 (our own tables' names)
_END = f"DELETE FROM {_FAILING} WHERE connection_id = ANY(%s) RETURNING connection_id"  # noqa: S608

_FEWEST_ERRORS = 5
_FAILING_SHARE, _RECOVERED_SHARE = 0.5, 0.1


def judge(connection_ids: Collection[str]) -> None:
    """Tell of those whose calls have begun to fail or have recovered, in the transaction of the roll-up.

    They fail when at least five of the last minutes' calls, and half of them, ended in an error; they have recovered
    when a tenth at most did. In between, and without a call, all stays as it is.
    """
    recent = CallPeriod.objects.filter(
        connection__in=sorted(connection_ids), step=Step.MINUTE, starts_at__gt=timezone.now() - WINDOW
    ).annotate(was_failing=Exists(FailingCalls.objects.filter(connection=OuterRef("connection"))))
    bags: dict[str, list[Bag]] = {}
    failing: set[str] = set()
    for connection_id, bag, was_failing in recent.values_list("connection_id", "figures", "was_failing"):
        bags.setdefault(connection_id, []).append(bag)
        if was_failing:
            failing.add(connection_id)
    figures = {connection_id: measures.total(found) for connection_id, found in bags.items()}
    began = {name for name, bag in figures.items() if name not in failing and _is_failing(bag)}
    ended = {name for name, bag in figures.items() if name in failing and _has_recovered(bag)}
    if began or ended:
        _tell(began, ended, figures)


def _tell(began: set[str], ended: set[str], figures: dict[str, Bag]) -> None:
    """Note the turns, and tell of those that nobody else has noted meanwhile."""
    with database.cursor() as cursor:
        cursor.execute(_BEGIN, [sorted(began)])
        begun = {connection_id for (connection_id,) in cursor.fetchall()}
        cursor.execute(_END, [sorted(ended)])
        over = {connection_id for (connection_id,) in cursor.fetchall()}
    rows = ExternalApiConnection.objects.filter(pk__in=begun | over).order_by("pk")
    outbox.write(
        [_event(row, "calls.failing" if row.pk in begun else "calls.recovered", figures[row.pk]) for row in rows]
    )


def _event(row: ExternalApiConnection, event_type: str, bag: Bag) -> OutboxEvent:
    facts = {
        "connectionId": row.pk,
        "providerId": row.external_api_id,
        "tenantId": row.tenant_id,
        "windowSeconds": int(WINDOW.total_seconds()),
        "calls": bag.get(measures.CALLS, 0),
        "errors": bag.get(measures.ERRORS, 0),
        "errorsByCode": measures.numbered(bag, measures.ERROR),
    }
    return outbox.build(event_type, facts, tenant_id=row.tenant_id)


def _is_failing(bag: Bag) -> bool:
    errors = bag.get(measures.ERRORS, 0)
    return errors >= max(_FEWEST_ERRORS, _FAILING_SHARE * bag.get(measures.CALLS, 0))


def _has_recovered(bag: Bag) -> bool:
    calls = bag.get(measures.CALLS, 0)
    return calls > 0 and bag.get(measures.ERRORS, 0) <= _RECOVERED_SHARE * calls
