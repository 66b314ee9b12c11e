"""Reads how often pages were visited: step by step, and the pages and referrers with the most visits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection

from external_apis.backoffice.models import VisitKind, VisitSum
from external_apis.backoffice.periods import Period, cover
from external_apis.tenancy import Scope

__all__ = ["Share", "read_steps", "read_top"]

_SUMS = VisitSum._meta.db_table
_STRETCHES = f"""
FROM unnest(%(places)s::int[], %(grains)s::text[], %(starts)s::timestamptz[], %(ends)s::timestamptz[])
    AS stretch (place, grain, starts_at, ends_at)
JOIN {_SUMS} AS row ON row.kind = ANY(%(kinds)s) AND row.grain = stretch.grain
    AND row.starts_at >= stretch.starts_at AND row.starts_at < stretch.ends_at
WHERE (%(tenant)s::text IS NULL OR row.tenant_id = %(tenant)s)
"""
_STEPS = f"SELECT stretch.place, sum(row.visits)::bigint {_STRETCHES} GROUP BY stretch.place"
_TOP = f"""
SELECT kind, name, visits FROM (
    SELECT kind, name, visits, row_number() OVER (PARTITION BY kind ORDER BY visits DESC, name) AS place
    FROM (SELECT row.kind, row.name, sum(row.visits)::bigint AS visits {_STRETCHES} GROUP BY row.kind, row.name) AS sums
) AS placed
WHERE place <= %(count)s ORDER BY kind, place
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
    stretches = [(place, stretch) for place, period in enumerate(periods) for stretch in cover(period)]
    given = {
        "places": [place for place, _ in stretches],
        "grains": [stretch.grain.value for _, stretch in stretches],
        "starts": [stretch.starts_at for _, stretch in stretches],
        "ends": [stretch.ends_at for _, stretch in stretches],
        "kinds": [kind.value for kind in kinds],
        "tenant": scope.tenant_id,
        **more,
    }
    with connection.cursor() as cursor:
        cursor.execute(statement, given)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows
