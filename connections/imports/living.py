"""Which of the connections that imports have noted are there still."""

from __future__ import annotations

from django.db.models import QuerySet

from connections.models import ExternalApiConnection, ImportedRow

__all__ = ["living"]


def living(rows: QuerySet[ImportedRow], column: str) -> dict[str, str]:
    """Return the ids of the connections of these rows that nobody has deleted, by a column of the rows; two queries."""
    pairs = list(rows.values_list(column, "object_id"))
    found = ExternalApiConnection.objects.filter(pk__in={pk for _, pk in pairs}, deleted_at=None)
    ids = set(found.values_list("pk", flat=True))
    return {value: pk for value, pk in pairs if pk in ids}
