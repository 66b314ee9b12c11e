"""Whose events are next: providers take turns, however much waits of one."""

from __future__ import annotations

from django.db import connection

from connections.models import WebhookEvent
from external_apis.models import ExternalApi

__all__ = ["waiting"]

_MOST = 100
_EVENTS = WebhookEvent._meta.db_table

# The recursion jumps from provider to provider in the index of what waits, however much that is.
_WAITING = f"""
WITH RECURSIVE waiting (id) AS (
    (SELECT external_api_id FROM {_EVENTS} WHERE due_at IS NOT NULL ORDER BY external_api_id LIMIT 1)
    UNION ALL
    SELECT (
        SELECT external_api_id FROM {_EVENTS}
        WHERE due_at IS NOT NULL AND external_api_id > waiting.id ORDER BY external_api_id LIMIT 1
    )
    FROM waiting WHERE waiting.id IS NOT NULL
)
SELECT waiting.id, COALESCE(api.slug, '') FROM waiting
CROSS JOIN LATERAL (
    SELECT due_at FROM {_EVENTS}
    WHERE external_api_id = waiting.id AND due_at <= statement_timestamp() ORDER BY due_at LIMIT 1
) AS first
LEFT JOIN {ExternalApi._meta.db_table} AS api ON api.id = waiting.id
ORDER BY first.due_at LIMIT {_MOST}
"""  # noqa: S608 (our own tables' names)


def waiting() -> list[tuple[str, str]]:
    """Return id and slug of providers with due events, the longest overdue first; one that was deleted has no slug."""
    with connection.cursor() as cursor:
        cursor.execute(_WAITING)
        return [(api_id, slug) for api_id, slug in cursor.fetchall()]
