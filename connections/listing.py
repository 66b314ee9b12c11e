"""Connections for a list, with what is shown of their providers, credentials and grants.

Which ones they are the ORM says, as ids. Their columns are read in a statement that is put together once: writing it
anew for each request, with three joins, takes the ORM longer than everything else that a list needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connection, models

from connections.models import ExternalApiConnection, ExternalApiCredential, Grant
from external_apis.models import ExternalApi

__all__ = ["read"]

_COLUMNS: dict[type[models.Model], tuple[str, ...]] = {
    ExternalApiConnection: (
        "id", "external_api", "connection_name", "slug", "status", "tenant", "partner", "user", "owner", "rotate_by",
        "last_used_at", "last_sync_at", "error_message", "calls_count", "errors_count", "authenticated_at",
        "created_at", "updated_at",
    ),
    ExternalApi: ("id", "api_config"),
    ExternalApiCredential: (
        "connection", "secrets", "secret_fingerprints", "secret_hints", "expires_at", "scopes",
    ),
    Grant: ("connection", "requested_scopes"),
}  # fmt: skip
"""What `connections.api.representation.connection_item` reads; any other column is loaded when it is asked for."""

_RELATED = ("external_api", "credential", "grant")


def read(rows: models.QuerySet[ExternalApiConnection], first: int, count: int) -> list[ExternalApiConnection]:
    """Return ``count`` connections after the ``first`` ones, newest first. One query."""
    ids = rows.select_related(None).order_by("-pk").values("pk")[first : first + count]
    found, parameters = ids.query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(_statement().replace("{ids}", found), parameters)
        # Many connections of a page are to the same few providers.
        providers: dict[str, ExternalApi] = {}
        return [_connection(values, providers) for values in cursor.fetchall()]


def _connection(values: Sequence[Any], providers: dict[str, ExternalApi]) -> ExternalApiConnection:
    connection_part, provider_part, *other_parts = _parts()
    row: Any = connection_part.make(values)
    if row.external_api_id not in providers:
        providers[row.external_api_id] = provider_part.make(values)
    related = [providers[row.external_api_id], *(part.make(values) for part in other_parts)]
    row._state.fields_cache.update(zip(_RELATED, related, strict=True))
    made: ExternalApiConnection = row
    return made


class _Part:
    """One model's share of a row."""

    def __init__(self, model: type[models.Model], alias: str, begin: int) -> None:
        # In the order in which `Model.from_db` takes them.
        fields: list[Any] = [field for field in model._meta.concrete_fields if field.name in _COLUMNS[model]]
        self.model = model
        self.names = [field.attname for field in fields]
        self.columns = [f"{alias}.{connection.ops.quote_name(field.column)}" for field in fields]
        self.place = slice(begin, begin + len(fields))
        self.key = next(position for position, field in enumerate(fields) if field.primary_key)
        self.converters: list[tuple[int, Callable[..., Any]]] = [
            (position, convert)
            for position, field in enumerate(fields)
            for convert in field.get_db_converters(connection)
        ]

    def make(self, values: Sequence[Any]) -> Any:
        """Return the instance, None where the outer join found nothing."""
        converted = list(values[self.place])
        if converted[self.key] is None:
            return None
        for position, convert in self.converters:
            converted[position] = convert(converted[position], None, connection)
        return self.model.from_db(DEFAULT_DB_ALIAS, self.names, converted)


@lru_cache(maxsize=1)
def _parts() -> tuple[_Part, ...]:
    parts: list[_Part] = []
    for model, alias in zip(_COLUMNS, "cpkg", strict=True):
        parts.append(_Part(model, alias, parts[-1].place.stop if parts else 0))
    return tuple(parts)


@lru_cache(maxsize=1)
def _statement() -> str:
    quote = connection.ops.quote_name
    table = {model: quote(model._meta.db_table) for model in _COLUMNS}
    columns = ", ".join(column for part in _parts() for column in part.columns)
    return (
        f"SELECT {columns} FROM {table[ExternalApiConnection]} c "  # noqa: S608 (names of our own tables)
        f"JOIN {table[ExternalApi]} p ON p.id = c.external_api_id "
        f"LEFT JOIN {table[ExternalApiCredential]} k ON k.connection_id = c.id "
        f"LEFT JOIN {table[Grant]} g ON g.connection_id = c.id "
        "WHERE c.id IN ({ids}) ORDER BY c.id DESC"
    )
