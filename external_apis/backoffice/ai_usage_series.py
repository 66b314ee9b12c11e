"""Reads what calls of AI models used: step by step, and by model, user or connection, from the rolled-up sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection

from external_apis.backoffice.models import AiDimension, AiUsageSum
from external_apis.backoffice.periods import Period, cover
from external_apis.tenancy import Scope

__all__ = ["Usage", "read_shares", "read_steps", "total"]

_SUMS = AiUsageSum._meta.db_table
_FIGURES = """
    sum(row.calls)::bigint, sum(row.prompt_tokens)::bigint, sum(row.completion_tokens)::bigint,
    sum(row.total_tokens)::bigint
"""
_STRETCHES = """
    unnest(%(places)s::int[], %(grains)s::text[], %(starts)s::timestamptz[], %(ends)s::timestamptz[])
        AS stretch (place, grain, starts_at, ends_at)
"""
_IN_STRETCH = """
    row.dimension = %(dimension)s AND row.grain = stretch.grain
    AND row.starts_at >= stretch.starts_at AND row.starts_at < stretch.ends_at
"""
_OF_TENANT, _OF_SUBJECT = " AND row.tenant_id = %(tenant)s", " AND row.subject = %(subject)s"


@dataclass(frozen=True, slots=True)
class Usage:
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


def read_steps(
    periods: Sequence[Period], scope: Scope, dimension: AiDimension | None = None, subject: str = ""
) -> list[Usage]:
    """Return the usage of each period, of one model, user or connection where one is named. One query."""
    if scope.is_sandbox:
        return [Usage()] * len(periods)
    # Of the whole installation there is one sum, and not one for each tenant.
    everything = AiDimension.INSTALLATION if scope.tenant_id is None else AiDimension.TOTAL
    given = {**_stretches(periods), "dimension": dimension or everything, "subject": subject, "tenant": scope.tenant_id}
    rows = _fetch(
        f"SELECT stretch.place, {_FIGURES} FROM {_STRETCHES} JOIN {_SUMS} AS row ON {_IN_STRETCH}{_OF_SUBJECT}"  # noqa: S608
        f"{'' if scope.tenant_id is None else _OF_TENANT} GROUP BY stretch.place",
        given,
    )
    found = {place: Usage(*figures) for place, *figures in rows}
    return [found.get(place, Usage()) for place in range(len(periods))]


def read_shares(
    period: Period, scope: Scope, dimension: AiDimension, subject: str = "", *, first: int, count: int
) -> list[tuple[str, Usage]]:
    """Return ``count`` models, users or connections from the ``first`` on with their usage, most tokens first.

    One query.
    """
    if scope.is_sandbox:
        return []
    given = {**_stretches([period]), "dimension": dimension, "subject": subject, "tenant": scope.tenant_id}
    rows = _fetch(
        f"SELECT row.subject, {_FIGURES} FROM {_STRETCHES} JOIN {_SUMS} AS row ON {_IN_STRETCH}"  # noqa: S608
        f"{'' if scope.tenant_id is None else _OF_TENANT}{_OF_SUBJECT if subject else ''}"
        " GROUP BY row.subject ORDER BY 5 DESC, 2 DESC, 1 LIMIT %(count)s OFFSET %(first)s",
        given | {"first": first, "count": count},
    )
    return [(name, Usage(*figures)) for name, *figures in rows]


def total(usages: Sequence[Usage]) -> Usage:
    """Return the sum of several."""
    return Usage(
        sum(usage.calls for usage in usages),
        sum(usage.prompt_tokens for usage in usages),
        sum(usage.completion_tokens for usage in usages),
        sum(usage.total_tokens for usage in usages),
    )


def _stretches(periods: Sequence[Period]) -> dict[str, list[Any]]:
    found = [(place, stretch) for place, period in enumerate(periods) for stretch in cover(period)]
    return {
        "places": [place for place, _ in found],
        "grains": [stretch.grain.value for _, stretch in found],
        "starts": [stretch.starts_at for _, stretch in found],
        "ends": [stretch.ends_at for _, stretch in found],
    }


def _fetch(statement: str, given: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, given)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows
