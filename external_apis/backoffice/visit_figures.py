"""Reads how often pages were visited: step by step, and the pages and referrers with the most visits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection

from external_apis.backoffice.models import VisitKind, VisitSum
from external_apis.backoffice.periods import Period
from external_apis.backoffice.summed_runs import FROM_RUNS, IN_RUN, PLACE, arguments_of
from external_apis.tenancy import Scope

__all__ = ["Share", "read_steps", "read_top"]

_SUMS = VisitSum._meta.db_table
_OF_TENANT = " AND tenant_id = %(tenant)s"

_FOUND = f"FROM {_SUMS} WHERE kind = ANY(%(kinds)s) AND {IN_RUN}{{of_tenant}}"
_STEPS = f"""
SELECT {PLACE}, sum(visits)::bigint
{FROM_RUNS} CROSS JOIN LATERAL (SELECT starts_at, visits {_FOUND} OFFSET 0) AS found
GROUP BY place
"""
_TOP = f"""
SELECT kind, name, visits FROM (
    SELECT kind, name, sum(visits)::bigint AS visits,
        row_number() OVER (PARTITION BY kind ORDER BY sum(visits) DESC, name) AS position
    {FROM_RUNS} CROSS JOIN LATERAL (SELECT kind, name, sum(visits) AS visits {_FOUND} GROUP BY kind, name) AS found
    GROUP BY kind, name
) AS placed
WHERE position <= %(count)s ORDER BY kind, position
"""  # noqa: S608 (our own table's name)


@dataclass(frozen=True, slots=True)
class Share:
    """The visits of one path, or from one host."""

    name: str
    visits: int


def read_steps(periods: Sequence[Period], scope: Scope) -> list[int]:
    """Return the visits of each period: to all pages, or to the tenant's. One query."""
    if scope.is_sandbox:
        return [0] * len(periods)
    found: dict[int, int] = dict(_fetch(_STEPS, periods, scope, [VisitKind.TOTAL]))
    return [found.get(place, 0) for place in range(len(periods))]


def read_top(period: Period, scope: Scope, count: int) -> dict[VisitKind, list[Share]]:
    """Return the ``count`` paths and referrers with the most visits. One query."""
    found: dict[VisitKind, list[Share]] = {VisitKind.PATH: [], VisitKind.REFERRER: []}
    if not scope.is_sandbox:
        for kind, name, visits in _fetch(_TOP, [period], scope, list(found), count=count):
            found[VisitKind(kind)].append(Share(name, visits))
    return found


def _fetch(
    statement: str, periods: Sequence[Period], scope: Scope, kinds: Sequence[VisitKind], **more: Any
) -> list[tuple[Any, ...]]:
    given = {
        **arguments_of(periods),
        "kinds": [kind.value for kind in kinds],
        "tenant": scope.tenant_id,
        **more,
    }
    with connection.cursor() as cursor:
        cursor.execute(statement.format(of_tenant="" if scope.tenant_id is None else _OF_TENANT), given)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows
