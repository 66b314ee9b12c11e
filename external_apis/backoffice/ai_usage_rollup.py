"""Adds single calls of AI models to the sums of quarters up to months, each exactly once."""

from __future__ import annotations

from django.db import connection

from external_apis.backoffice.models import AiCall, AiDimension, AiUsageSum
from external_apis.backoffice.periods import Grain

__all__ = ["roll_up"]

_AT_ONCE = 5_000
_CALLS, _SUMS = AiCall._meta.db_table, AiUsageSum._meta.db_table

# One statement: what it takes away is what it adds, or neither happens. Calls that another roll-up is about to take
# are passed over. In the order of the key, so that two of them never wait for each other.
_ROLL_UP = f"""
WITH taken AS (
    DELETE FROM {_CALLS} WHERE id IN (SELECT id FROM {_CALLS} ORDER BY id LIMIT %(most)s FOR UPDATE SKIP LOCKED)
    RETURNING tenant_id, at, model_id, account_id, connection_id, prompt_tokens, completion_tokens, total_tokens
), added AS (
    INSERT INTO {_SUMS} AS kept
        (tenant_id, dimension, subject, grain, starts_at, calls, prompt_tokens, completion_tokens, total_tokens)
    SELECT seen.tenant_id, seen.dimension, seen.subject, span.grain, span.starts_at,
        count(*), sum(prompt_tokens), sum(completion_tokens), sum(total_tokens)
    FROM taken
    CROSS JOIN LATERAL (VALUES
        ('{AiDimension.INSTALLATION}', NULL, ''),
        ('{AiDimension.TOTAL}', taken.tenant_id, ''),
        ('{AiDimension.MODEL}', taken.tenant_id, taken.model_id),
        ('{AiDimension.CONNECTION}', taken.tenant_id, taken.connection_id),
        ('{AiDimension.USER}', taken.tenant_id, taken.account_id)
    ) AS seen (dimension, tenant_id, subject)
    CROSS JOIN LATERAL (VALUES
        ('{Grain.QUARTER}', date_bin('15 minutes', at, timestamptz '2000-01-01 00:00:00+00')),
        ('{Grain.HOUR}', date_trunc('hour', at, 'UTC')),
        ('{Grain.DAY}', date_trunc('day', at, 'UTC')),
        ('{Grain.PENTAD}', date_trunc('month', at, 'UTC')
            + least(5, (extract(day FROM at AT TIME ZONE 'UTC')::int - 1) / 5) * interval '120 hours'),
        ('{Grain.MONTH}', date_trunc('month', at, 'UTC'))
    ) AS span (grain, starts_at)
    WHERE seen.dimension <> '{AiDimension.USER}' OR seen.subject <> ''
    GROUP BY seen.tenant_id, seen.dimension, seen.subject, span.grain, span.starts_at
    ORDER BY seen.tenant_id, seen.dimension, span.grain, span.starts_at, seen.subject
    ON CONFLICT (tenant_id, dimension, grain, starts_at, subject) DO UPDATE SET
        calls = kept.calls + EXCLUDED.calls,
        prompt_tokens = kept.prompt_tokens + EXCLUDED.prompt_tokens,
        completion_tokens = kept.completion_tokens + EXCLUDED.completion_tokens,
        total_tokens = kept.total_tokens + EXCLUDED.total_tokens
)
SELECT count(*) FROM taken
"""  # noqa: S608 (our own tables' names)


def roll_up() -> int:
    """Add all calls that wait, some thousands in a statement; returns their number."""
    total = 0
    while True:
        with connection.cursor() as cursor:
            cursor.execute(_ROLL_UP, {"most": _AT_ONCE})
            count = int(cursor.fetchone()[0])
        total += count
        if count < _AT_ONCE:
            return total
