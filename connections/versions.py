"""The versions of the rows that an opened connection was made of, as PostgreSQL itself counts them.

Every change of a row gives it another ``xmin`` (PostgreSQL's documentation, "System Columns"), also one made by
`QuerySet.update` or in SQL, which nobody announces.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.db.models import F, Func, QuerySet, TextField

from connections.models import ExternalApiConnection

__all__ = ["current", "take", "versioned"]

_ATTRIBUTE = "row_versions"


class _Versions(Func):
    """The ``xmin`` of the row behind each given column."""

    output_field = TextField()

    def as_sql(self, compiler: Any, connection: Any, *_more: Any, **_options: Any) -> Any:
        quote = compiler.quote_name_unless_alias
        rows = ", ".join(f"coalesce({quote(column.alias)}.xmin::text, '-')" for column in self.get_source_expressions())
        return f"concat_ws(' ', {rows})", []


def versioned(rows: QuerySet[ExternalApiConnection]) -> QuerySet[ExternalApiConnection]:
    """Bring along the versions of connection, provider, credential and of the tenants of the two."""
    columns = ("slug", "external_api__slug", "credential__scopes", "tenant__slug", "external_api__tenant__slug")
    return rows.annotate(**{_ATTRIBUTE: _Versions(*map(F, columns))})


def take(row: ExternalApiConnection) -> str:
    """Return the versions that came along with a row."""
    return str(vars(row)[_ATTRIBUTE])


def current(ids: Collection[str]) -> dict[str, str]:
    """Return today's versions of the connections that are not deleted, by id. One query."""
    rows = ExternalApiConnection.objects.filter(pk__in=ids, deleted_at=None, external_api__deleted_at=None)
    return dict(versioned(rows).order_by().values_list("pk", _ATTRIBUTE))
