"""Reads what calls of AI models used: step by step, and by model, user or connection, from the rolled-up sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import QuerySet

from external_apis.backoffice.models import AiDimension, AiModel, AiUsageSum
from external_apis.backoffice.periods import Period
from external_apis.backoffice.summed_runs import FROM_RUNS, IN_RUN, PLACE, arguments_of
from external_apis.backoffice.users import find_user
from external_apis.errors import NotFound
from external_apis.tenancy import Scope

__all__ = ["Usage", "check_subject", "read_shares", "read_steps", "total"]

_SUMS = AiUsageSum._meta.db_table
_NAMES = ("calls", "prompt_tokens", "completion_tokens", "total_tokens")
_FIGURES = ", ".join(f"sum({name})::bigint" for name in _NAMES)
_OF_TENANT, _OF_SUBJECT = " AND tenant_id = %(tenant)s", " AND subject = %(subject)s"

_STEPS = f"""
SELECT {PLACE}, {_FIGURES}
{FROM_RUNS}
CROSS JOIN LATERAL (
    SELECT starts_at, {", ".join(_NAMES)} FROM {_SUMS}
    WHERE dimension = %(dimension)s AND subject = %(subject)s AND {IN_RUN}{{of_tenant}}
    OFFSET 0
) AS found
GROUP BY place
"""  # noqa: S608 (our own table's name)
_SHARES = f"""
SELECT subject, {_FIGURES}
{FROM_RUNS}
CROSS JOIN LATERAL (
    SELECT subject, {", ".join(_NAMES)} FROM {_SUMS}
    WHERE dimension = %(dimension)s AND {IN_RUN}{{bounds}}
    OFFSET 0
) AS found
GROUP BY subject ORDER BY 5 DESC, 2 DESC, 1 LIMIT %(count)s OFFSET %(first)s
"""  # noqa: S608


class Usage(NamedTuple):
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


def check_subject(dimension: AiDimension, subject: str, scope: Scope) -> None:
    """Raise `NotFound` for a model or user that the scope does not see and has no figures of.

    A connection, of whose rows nothing is known on this floor, is there when there are figures of it.
    """
    rows: list[QuerySet[Any]] = [AiUsageSum.objects.filter(dimension=dimension, subject=subject)]
    if dimension is AiDimension.MODEL:
        rows.append(AiModel.objects.filter(pk=subject))
    if not scope.is_sandbox and any(scope.own(found).exists() for found in rows):
        return
    if dimension is AiDimension.USER:
        find_user(subject, scope)
    else:
        raise NotFound(f"{dimension.label} {subject} not found")


def read_steps(
    periods: Sequence[Period], scope: Scope, dimension: AiDimension | None = None, subject: str = ""
) -> list[Usage]:
    """Return the usage of each period, of one model, user or connection where one is named. One query."""
    if scope.is_sandbox:
        return [Usage()] * len(periods)
    # Of the whole installation there is one sum, and not one for each tenant.
    everything = AiDimension.INSTALLATION if scope.tenant_id is None else AiDimension.TOTAL
    rows = _fetch(
        _STEPS.format(of_tenant="" if scope.tenant_id is None else _OF_TENANT),
        {
            **arguments_of(periods),
            "dimension": dimension or everything,
            "subject": subject,
            "tenant": scope.tenant_id,
        },
    )
    usages = [Usage()] * len(periods)
    for place, *figures in rows:
        usages[place] = Usage(*figures)
    return usages


def read_shares(
    period: Period, scope: Scope, dimension: AiDimension, subject: str = "", *, first: int, count: int
) -> list[tuple[str, Usage]]:
    """Return ``count`` models, users or connections from the ``first`` on with their usage, most tokens first.

    One query.
    """
    if scope.is_sandbox:
        return []
    bounds = ("" if scope.tenant_id is None else _OF_TENANT) + (_OF_SUBJECT if subject else "")
    rows = _fetch(
        _SHARES.format(bounds=bounds),
        {
            **arguments_of([period]),
            "dimension": dimension,
            "subject": subject,
            "tenant": scope.tenant_id,
            "first": first,
            "count": count,
        },
    )
    return [(name, Usage(*figures)) for name, *figures in rows]


def total(usages: Sequence[Usage]) -> Usage:
    """Return the sum of several."""
    return Usage(*map(sum, zip(*usages, strict=True)))


def _fetch(statement: str, given: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, given)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows
