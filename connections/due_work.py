"""Takes due rows of work and stores how they ended: the row is the truth, the queue only says when to look.

A worker that dies leaves its claims to whoever looks after the lease; one that was only slow is overtaken, and what it
stores then is refused. So an effect that is not a row has to bear being repeated under the same key.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TypeVar

from connections.models.due_work import DueWork

__all__ = ["claim", "settle"]

Work = TypeVar("Work", bound=DueWork)


def claim(model: type[Work], limit: int, lease: timedelta, **only: object) -> list[Work]:
    """Take up to ``limit`` due rows, the longest overdue first; ``only`` those with such columns.

    One statement, by the database's clock; two callers never take the same row. The rows come as they are stored from
    now on.
    """
    # Materialized: in a join the planner may run it for each row, and it passes over those that it has taken already.
    table = model._meta.db_table
    wanted = "".join(f" AND {name} = %({name})s" for name in only)
    statement = f"""
WITH free AS MATERIALIZED (
    SELECT id FROM {table}
    WHERE due_at <= statement_timestamp(){wanted}
    ORDER BY due_at LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)
UPDATE {table} AS row
SET due_at = statement_timestamp() + %(lease)s, fence = row.fence + 1, attempts = row.attempts + 1
FROM free WHERE row.id = free.id
RETURNING row.*
"""  # noqa: S608 (our own table's name)
    return list(model._default_manager.raw(statement, {**only, "lease": lease, "limit": limit}))


def settle(row: DueWork, **columns: object) -> bool:
    """Store how a claim ended, ``due_at`` among it (None: nothing is left to do); False when it was overtaken."""
    rows = type(row)._default_manager.filter(pk=row.pk, fence=row.fence)
    return rows.update(**columns) == 1
