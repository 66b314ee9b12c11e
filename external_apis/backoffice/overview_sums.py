"""Sums of figures of quarters up to months: adds to them, and reads them step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from django.db import connection

from external_apis.backoffice.models import OverviewSum
from external_apis.backoffice.periods import Grain, Period, columns_of, floor
from external_apis.models import Tenant
from external_apis.tenancy import Scope

__all__ = ["CALLS", "ERRORS", "Key", "add_numbers", "owned_by", "read_sums"]

CALLS, ERRORS = "calls", "errors"

Key = tuple[str | None, datetime, str]
"""Whose (a tenant's id), when, and which figure."""

_SUMS = OverviewSum._meta.db_table

# In the order of the key, so that two of them never wait for each other.
_ADD = f"""
INSERT INTO {_SUMS} AS kept (tenant_id, grain, starts_at, figure, number)
SELECT new.tenant, new.grain, new.starts_at, new.figure, new.number
FROM unnest(%s::text[], %s::text[], %s::timestamptz[], %s::text[], %s::numeric[])
    AS new (tenant, grain, starts_at, figure, number)
WHERE new.tenant IS NULL OR EXISTS (SELECT 1 FROM {Tenant._meta.db_table} WHERE id = new.tenant)
ORDER BY new.tenant, new.grain, new.starts_at, new.figure
ON CONFLICT (tenant_id, grain, starts_at, figure) DO UPDATE SET number = kept.number + EXCLUDED.number
"""  # noqa: S608 (our own table's name)

_READ = f"""
SELECT stretch.place, row.figure, sum(row.number)
FROM unnest(%s::int[], %s::text[], %s::timestamptz[], %s::timestamptz[]) AS stretch (place, grain, starts_at, ends_at)
JOIN {_SUMS} AS row ON row.grain = stretch.grain
    AND row.starts_at >= stretch.starts_at AND row.starts_at < stretch.ends_at
WHERE {{owner}}
GROUP BY stretch.place, row.figure
"""  # noqa: S608


def add_numbers(numbers: Mapping[Key, int]) -> None:
    """Add each number to the quarter, and all up to the month, that it is of: its tenant's, and the installation's.

    One statement. Whoever calls it sees to it that no number is added twice: it takes part in their transaction.
    """
    sums: dict[tuple[str | None, str, datetime, str], int] = {}
    for (tenant_id, at, figure), number in numbers.items():
        for owner in {tenant_id, None}:
            for grain in Grain:
                key = (owner, grain.value, floor(at, grain), figure)
                sums[key] = sums.get(key, 0) + number
    if sums:
        columns = [list(column) for column in zip(*sums, strict=True)]
        with connection.cursor() as cursor:
            cursor.execute(_ADD, [*columns, list(sums.values())])


def owned_by(scope: Scope) -> tuple[str, list[str]]:
    """Return the condition on a ``row`` of sums or counts that a scope reads, and its arguments."""
    return ("row.tenant_id IS NULL", []) if scope.tenant_id is None else ("row.tenant_id = %s", [scope.tenant_id])


def read_sums(scope: Scope, periods: Sequence[Period]) -> list[dict[str, Decimal]]:
    """Return what each figure came to in each period, where that is anything; nothing of the sandbox. One query."""
    found: list[dict[str, Decimal]] = [{} for _ in periods]
    if scope.is_sandbox:
        return found
    owner, values = owned_by(scope)
    with connection.cursor() as cursor:
        cursor.execute(_READ.format(owner=owner), [*columns_of(periods), *values])
        for place, figure, number in cursor.fetchall():
            found[place][figure] = number
    return found
