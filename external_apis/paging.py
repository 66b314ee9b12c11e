"""Pages of long tables: found in the index alone, and counted no more often than every 5 s."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import redis
from django.db import models

from external_apis import valkey

__all__ = ["TOTAL_KEYS", "recent_estimate", "recent_total", "rows_between"]

TOTAL_KEYS = f"{valkey.PREFIX}total:"
"""Begins the keys under which totals are kept."""

_TOTAL_SECONDS = 5
_COUNTED_AT_MOST = 10_000
_NEAR = 200
_Model = TypeVar("_Model", bound=models.Model)


def rows_between(rows: models.QuerySet[_Model], first: int, count: int) -> list[_Model]:
    """Return ``count`` rows after the ``first`` ones.

    Of a page far down those before it are passed over in the index and not joined and read; of a near one that would
    cost more than it saves.
    """
    if first < _NEAR:
        return list(rows[first : first + count])
    ids = rows.select_related(None).values("pk")[first : first + count]
    return list(rows.filter(pk__in=ids))


def recent_total(rows: models.QuerySet[Any], name: str = "") -> int:
    """Count rows, or take what was counted in the last 5 s.

    Counting follows the table and not the page, so the number is kept in Valkey under a hash of ``name``, which says
    what is counted, or of the query, which takes longer to write down; without Valkey it is counted each time.
    """
    return _recent(rows, "total", name, lambda plain: plain.count())


def recent_estimate(rows: models.QuerySet[Any], name: str = "", *, at_most: int = _COUNTED_AT_MOST) -> int:
    """Count up to 10,000 rows; beyond that take the planner's estimate, which costs the same however many there are.

    Both are kept as in `recent_total`. The estimate follows the table's statistics, and is never less than what was
    counted.
    """
    return _recent(rows, "estimate", name, partial(_estimate, at_most=at_most))


def _estimate(rows: models.QuerySet[Any], at_most: int) -> int:
    counted = rows[: at_most + 1].count()
    if counted <= at_most:
        return counted
    plan = json.loads(rows.explain(format="json"))
    return max(counted, int(plan[0]["Plan"]["Plan Rows"]))


def _recent(rows: models.QuerySet[Any], kind: str, name: str, count: Callable[[models.QuerySet[Any]], int]) -> int:
    rows = rows.order_by()
    digest = hashlib.sha256((name or repr(rows.query.sql_with_params())).encode()).hexdigest()[:32]
    key = f"{TOTAL_KEYS}{kind}:{digest}"
    with suppress(redis.RedisError):
        kept = valkey.client().get(key)
        if kept is not None:
            return int(kept)
    total = count(rows)
    with suppress(redis.RedisError):
        valkey.client().set(key, total, ex=_TOTAL_SECONDS)
    return total
