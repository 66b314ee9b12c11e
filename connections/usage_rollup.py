"""Brings the counters that calls leave in Valkey into the connections' rows."""

from __future__ import annotations

from datetime import timedelta

from django.db import connection, transaction
from django.utils import timezone

from connections.client.usage import Batch, drain
from connections.models import ExternalApiConnection, UsageBatch

__all__ = ["roll_up"]

_REMEMBERED = timedelta(days=7)

# One statement for all of them, whatever their number.
_APPLY = f"""
UPDATE {ExternalApiConnection._meta.db_table} AS row
SET calls_count = row.calls_count + used.calls,
    errors_count = row.errors_count + used.errors,
    last_used_at = greatest(row.last_used_at, used.at)
FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::timestamptz[]) AS used (id, calls, errors, at)
WHERE row.id = used.id
"""  # noqa: S608 (our own table's name)


def roll_up() -> int:
    """Add what all processes counted since the last time; returns the number of rows, those since purged not counted.

    The counts are forgotten in Valkey only after the commit, and kept when it fails; the batch is recorded in the same
    transaction, so that one whose roll-up broke off in between is not added again. Raises `ServiceUnavailable` without
    Valkey.
    """
    with drain() as batch, transaction.atomic():
        if not batch.counts or not _is_new(batch):
            return 0
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


def _is_new(batch: Batch) -> bool:
    UsageBatch.objects.filter(applied_at__lt=timezone.now() - _REMEMBERED).delete()
    return UsageBatch.objects.get_or_create(id=batch.id)[1]
