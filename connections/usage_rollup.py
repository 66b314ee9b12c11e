"""Brings what was counted of calls, which Valkey holds, into the tables: by connection, provider and time."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.dispatch import Signal
from django.utils import timezone

from connections import failing_calls
from connections.client.measures import Bag, add
from connections.client.samples import Sample
from connections.client.usage import Batch, drain
from connections.models import (
    CallPeriod,
    ExternalApiConnection,
    ObservedCall,
    ProviderPeriod,
    ProviderTotal,
    Step,
    UsageBatch,
)
from external_apis.models import ExternalApi

__all__ = ["counted", "roll_up"]

counted = Signal()
"""Sent in the transaction of a batch: ``bags`` by tenant (None for none) and minute, without calls to the sandbox.

Whoever fails here undoes the batch, which is added again later.
"""

_REMEMBERED = timedelta(days=7)
_MOST_BATCHES = 100  # in one run: the rest is for the next
_CONNECTIONS, _PERIODS = ExternalApiConnection._meta.db_table, CallPeriod._meta.db_table

# One statement for all of them, whatever their number.
_APPLY = f"""
UPDATE {_CONNECTIONS} AS row
SET calls_count = row.calls_count + used.calls,
    errors_count = row.errors_count + used.errors,
    last_used_at = greatest(row.last_used_at, CASE WHEN used.at IS NOT NULL THEN least(used.at, now()) END)
FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::timestamptz[]) AS used (id, calls, errors, at)
WHERE row.id = used.id
"""  # noqa: S608 (our own table's name)

_SUM = """
(
    SELECT jsonb_object_agg(name, number)
    FROM (
        SELECT name, sum(number::bigint) AS number
        FROM (SELECT * FROM jsonb_each_text(kept.figures) UNION ALL SELECT * FROM jsonb_each_text(EXCLUDED.figures))
            AS either (name, number)
        GROUP BY name
    ) AS sums
)
"""

_ADD_PERIODS = f"""
INSERT INTO {_PERIODS} AS kept (connection_id, tenant_id, step, starts_at, figures)
SELECT row.id, row.tenant_id, new.step, new.starts_at, new.figures::jsonb
FROM unnest(%s::text[], %s::text[], %s::timestamptz[], %s::text[]) AS new (id, step, starts_at, figures)
JOIN {_CONNECTIONS} AS row ON row.id = new.id
ORDER BY row.id, new.step, new.starts_at
ON CONFLICT (connection_id, step, starts_at) DO UPDATE SET figures = {_SUM}
"""  # noqa: S608

_ADD_PROVIDER_PERIODS = f"""
INSERT INTO {ProviderPeriod._meta.db_table} AS kept (external_api_id, tenant_id, step, starts_at, figures)
SELECT row.id, new.tenant, new.step, new.starts_at, new.figures::jsonb
FROM unnest(%s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::text[])
    AS new (id, tenant, step, starts_at, figures)
JOIN {ExternalApi._meta.db_table} AS row ON row.id = new.id
ORDER BY row.id, new.step, new.starts_at, new.tenant
ON CONFLICT (external_api_id, step, starts_at, tenant_id) DO UPDATE SET figures = {_SUM}
"""  # noqa: S608

_ADD_TOTALS = f"""
INSERT INTO {ProviderTotal._meta.db_table} AS kept (external_api_id, tenant_id, figures)
SELECT row.id, row.tenant_id, new.figures::jsonb
FROM unnest(%s::text[], %s::text[]) AS new (id, figures)
JOIN {ExternalApi._meta.db_table} AS row ON row.id = new.id
ORDER BY row.id
ON CONFLICT (external_api_id) DO UPDATE SET figures = {_SUM}
"""  # noqa: S608

_LEAVE_LATEST = f"""
DELETE FROM {ObservedCall._meta.db_table} WHERE id IN (
    SELECT id FROM (
        SELECT id, row_number() OVER (PARTITION BY connection_id, error = '' ORDER BY id DESC) AS place
        FROM {ObservedCall._meta.db_table} WHERE connection_id = ANY(%s)
    ) AS placed
    WHERE place > %s
)
"""  # noqa: S608


def roll_up() -> int:
    """Add what all processes counted since the last time; returns the number of rows, those since purged not counted.

    Very much comes in several batches, each in a transaction of its own.

    The counts are forgotten in Valkey only after the commit, and kept when it fails; the batch is recorded in the same
    transaction, so that one whose roll-up broke off in between is not added again. Raises `ServiceUnavailable` without
    Valkey.
    """
    total = 0
    for _ in range(_MOST_BATCHES):
        with drain() as batch:
            total += _apply(batch)
        if not batch.is_full:
            break
    return total


def _apply(batch: Batch) -> int:
    if not (batch.counts or batch.periods or batch.samples):
        return 0
    with transaction.atomic():
        if not _is_new(batch):
            return 0
        used = _apply_counts(batch)
        _add_periods(batch)
        failing_calls.judge({connection_id for connection_id, _ in batch.periods})
        _keep_samples(batch.samples)
        return used


def _is_new(batch: Batch) -> bool:
    UsageBatch.objects.filter(applied_at__lt=timezone.now() - _REMEMBERED).delete()
    return UsageBatch.objects.get_or_create(id=batch.id)[1]


def _apply_counts(batch: Batch) -> int:
    ids = sorted(batch.counts)
    columns = (
        ids,
        [batch.counts[name].calls for name in ids],
        [batch.counts[name].errors for name in ids],
        [batch.counts[name].last_used_at for name in ids],
    )
    with connection.cursor() as cursor:
        cursor.execute(_APPLY, columns)
        return int(cursor.rowcount)


def _add_periods(batch: Batch) -> None:
    rows = ExternalApiConnection.objects.filter(pk__in={name for name, _ in batch.periods})
    owners = {
        pk: owner for pk, *owner in rows.values_list("pk", "external_api_id", "tenant_id", "external_api__is_sandbox")
    }
    now = int(timezone.now().timestamp() // 60)
    sums: dict[tuple[Any, ...], Bag] = {}
    of_providers: dict[tuple[Any, ...], Bag] = {}
    totals: dict[tuple[Any, ...], Bag] = {}
    of_tenants: dict[tuple[Any, datetime], Bag] = {}
    for (connection_id, minute), bag in batch.periods.items():
        if connection_id not in owners:
            continue
        provider_id, tenant_id, is_sandbox = owners[connection_id]
        add(totals.setdefault((provider_id,), {}), bag)
        minute = min(minute, now)  # noqa: PLW2901 (a clock may have been ahead for a while)
        if not is_sandbox:
            add(of_tenants.setdefault((tenant_id, datetime.fromtimestamp(minute * 60, UTC)), {}), bag)
        for step, starts_at in _periods_of(minute):
            add(sums.setdefault((connection_id, step, starts_at), {}), bag)
            add(of_providers.setdefault((provider_id, tenant_id, step, starts_at), {}), bag)
    with connection.cursor() as cursor:
        for statement, bags in ((_ADD_PERIODS, sums), (_ADD_PROVIDER_PERIODS, of_providers), (_ADD_TOTALS, totals)):
            if bags:
                columns = [list(column) for column in zip(*bags, strict=True)]
                cursor.execute(statement, (*columns, [json.dumps(bag) for bag in bags.values()]))
    if of_tenants:
        counted.send(CallPeriod, bags=of_tenants)


def _periods_of(minute: int) -> Iterable[tuple[str, datetime]]:
    at = datetime.fromtimestamp(minute * 60, UTC)
    yield Step.MINUTE.value, at
    yield Step.HOUR.value, at.replace(minute=0)
    yield Step.DAY.value, at.replace(hour=0, minute=0)


def _keep_samples(samples: list[Sample]) -> None:
    ids = sorted({sample.connection_id for sample in samples})
    if not ids:
        return
    tenants = dict(ExternalApiConnection.objects.filter(pk__in=ids).values_list("pk", "tenant_id"))
    ObservedCall.objects.bulk_create(
        ObservedCall(
            connection_id=sample.connection_id,
            tenant_id=tenants[sample.connection_id],
            ended_at=datetime.fromtimestamp(sample.at, UTC),
            method=sample.method,
            path=sample.path,
            status=sample.status,
            error=sample.error,
            duration_ms=sample.duration_ms,
            attempts=sample.attempts,
            request_id=sample.request_id,
        )
        for sample in samples
        if sample.connection_id in tenants
    )
    with connection.cursor() as cursor:
        cursor.execute(_LEAVE_LATEST, (ids, settings.CALLS_KEPT))
