"""Brings the counters that calls leave in Valkey into the connections' rows."""

from __future__ import annotations

from django.db import connection, transaction

from connections.client.usage import drain
from connections.models import ExternalApiConnection

__all__ = ["roll_up"]

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

    The counts are forgotten in Valkey only after the commit, and kept when it fails. Raises `ServiceUnavailable`
    without Valkey.
    """
    with drain() as counts, transaction.atomic():
        if not counts:
            return 0
        ids = sorted(counts)
        columns = (
            ids,
            [counts[name].calls for name in ids],
            [counts[name].errors for name in ids],
            [counts[name].last_used_at for name in ids],
        )
        with connection.cursor() as cursor:
            cursor.execute(_APPLY, columns)
            return int(cursor.rowcount)
