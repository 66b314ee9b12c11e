"""Brings the sums of visits from Valkey into the table, each visit exactly once, and drops old ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from external_apis.backoffice import visit_counting, visit_store
from external_apis.backoffice.models import VisitBatch, VisitKind, VisitSum
from external_apis.backoffice.periods import Grain, floor
from external_apis.backoffice.visit_store import OTHER, QUARTER_SECONDS, Counted
from external_apis.models import Tenant

__all__ = ["NAMES_A_DAY", "prune", "roll_up"]

NAMES_A_DAY = 200
"""How many paths, and how many hosts, are told apart of each tenant and day (UTC); the rest are one."""

_REMEMBERED = timedelta(days=7)
_KEPT = timedelta(days=800)
"""As many days as one answer may have; months are kept for ever."""

_PRUNED_AT_ONCE = 10_000

_ADD = f"""
INSERT INTO {VisitSum._meta.db_table} AS kept (tenant_id, kind, name, grain, starts_at, visits)
SELECT new.tenant_id, new.kind, new.name, new.grain, new.starts_at, new.visits
FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::bigint[])
    AS new (tenant_id, kind, name, grain, starts_at, visits)
WHERE new.tenant_id IS NULL OR EXISTS (SELECT 1 FROM {Tenant._meta.db_table} WHERE id = new.tenant_id)
ON CONFLICT (kind, grain, starts_at, tenant_id, name) DO UPDATE SET visits = kept.visits + EXCLUDED.visits
"""  # noqa: S608 (our own tables' names)

_Sum = tuple[str | None, str, str, Grain, datetime]


def roll_up() -> int:
    """Add what all processes counted since the last time; return the number of visits.

    The counts are forgotten in Valkey only after the commit, and the batch is recorded in the same transaction: one
    that comes again, because the roll-up broke off in between or two ran at once, is left alone. Raises
    `ServiceUnavailable` without Valkey.
    """
    visit_counting.flush()
    taken = visit_store.take()
    if taken is None:
        return 0
    with transaction.atomic():
        visits = _apply(taken.sums) if _is_new(taken.batch_id) else 0
    visit_store.forget(taken.batch_id)
    return visits


def prune() -> int:
    """Delete sums of less than a month that are older than 800 days; return how many."""
    pruned = 0
    while True:
        old = VisitSum.objects.filter(starts_at__lt=timezone.now() - _KEPT).exclude(grain=Grain.MONTH.value)
        deleted, _ = VisitSum.objects.filter(pk__in=old.values("pk")[:_PRUNED_AT_ONCE]).delete()
        pruned += deleted
        if deleted < _PRUNED_AT_ONCE:
            return pruned


def _is_new(batch_id: str) -> bool:
    VisitBatch.objects.filter(applied_at__lt=timezone.now() - _REMEMBERED).delete()
    return VisitBatch.objects.get_or_create(id=batch_id)[1]


def _apply(sums: Mapping[Counted, int]) -> int:
    added: dict[_Sum, int] = defaultdict(int)
    for counted, number in _bounded(sums):
        at = _starts_at(counted)
        for grain in Grain:
            added[counted.tenant or None, counted.kind, counted.name, grain, floor(at, grain)] += number
    # In one order, so that nobody who writes several of them waits for another who does.
    rows = sorted(added.items(), key=lambda item: tuple(map(str, item[0])))
    columns: list[list[Any]] = [list(column) for column in zip(*(key for key, _ in rows), strict=True)]
    with connection.cursor() as cursor:
        cursor.execute(_ADD, [*columns, [number for _, number in rows]])
    return sum(number for counted, number in sums.items() if counted.kind == VisitKind.TOTAL)


def _bounded(sums: Mapping[Counted, int]) -> Iterable[tuple[Counted, int]]:
    """Yield the sums, the largest first, with `OTHER` for names that are too many for their day.

    Roll-ups run one after the other, as each is of the one batch that there is.
    """
    known = _known_names(sums)
    for counted, number in sorted(sums.items(), key=lambda item: (-item[1], item[0])):
        names = known[counted.tenant, counted.kind, floor(_starts_at(counted), Grain.DAY)]
        if counted.name in names or len(names) < NAMES_A_DAY:
            names.add(counted.name)
            yield counted, number
        else:
            yield counted._replace(name=OTHER), number


def _known_names(sums: Mapping[Counted, int]) -> dict[tuple[str, str, datetime], set[str]]:
    """Return the names that the days of these sums have already. One query."""
    days = {floor(_starts_at(counted), Grain.DAY) for counted in sums}
    rows = VisitSum.objects.filter(grain=Grain.DAY.value, starts_at__in=days).exclude(kind=VisitKind.TOTAL)
    found: dict[tuple[str, str, datetime], set[str]] = defaultdict(set)
    for tenant_id, kind, starts_at, name in rows.values_list("tenant_id", "kind", "starts_at", "name"):
        found[tenant_id or "", kind, starts_at].add(name)
    return found


def _starts_at(counted: Counted) -> datetime:
    """A process whose clock is ahead counts for now."""
    now = int(timezone.now().timestamp() // QUARTER_SECONDS)
    return datetime.fromtimestamp(min(counted.quarter, now) * QUARTER_SECONDS, UTC)
