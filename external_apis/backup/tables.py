"""Which tables a backup holds, and in which state of the migrations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.apps import apps
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Model

from external_apis.fields import SecretsField
from external_apis.models import DataKey

__all__ = ["Table", "applied_migrations", "non_empty", "shipped_migrations", "stored_tables"]

# Whoever is signed in signs in again.
_LEFT_OUT_APPS = frozenset(["sessions"])
_LEFT_OUT_MODELS = frozenset(["backoffice.UserSession"])
# `migrate` fills them by itself, with ids of its own; those of the backup take their place.
_MADE_BY_MIGRATE = frozenset(["contenttypes.ContentType", "auth.Permission", "backoffice.Plan"])
# A data key itself stands in BACKUP_KEYS_FILE alone, so that shredding reaches it.
_LEFT_OUT_COLUMNS = {DataKey._meta.db_table: frozenset(["wrapped"])}


@dataclass(frozen=True)
class Table:
    name: str
    columns: Sequence[str]
    sealed_columns: frozenset[str]
    is_made_by_migrate: bool = False


def stored_tables() -> list[Table]:
    """Every table of every installed app but the sessions, those that `migrate` fills first."""
    models: dict[str, type[Model]] = {}
    for model in apps.get_models(include_auto_created=True):
        is_left_out = model._meta.app_label in _LEFT_OUT_APPS or model._meta.label in _LEFT_OUT_MODELS
        if model._meta.managed and not model._meta.proxy and not is_left_out:
            models.setdefault(model._meta.db_table, model)
    tables = [
        Table(
            name,
            [
                str(field.column)
                for field in model._meta.local_concrete_fields
                if not field.generated and field.column not in _LEFT_OUT_COLUMNS.get(name, ())
            ],
            frozenset(
                str(field.column) for field in model._meta.local_concrete_fields if isinstance(field, SecretsField)
            ),
            is_made_by_migrate=model._meta.label in _MADE_BY_MIGRATE,
        )
        for name, model in models.items()
    ]
    return sorted(tables, key=lambda table: (not table.is_made_by_migrate, table.name))


def shipped_migrations() -> list[list[str]]:
    """The ``[app, name]`` of every migration of the installed apps, in order."""
    return sorted([app, name] for app, name in MigrationLoader(None, ignore_no_migrations=True).disk_migrations or ())


def applied_migrations() -> list[list[str]]:
    """Those of `shipped_migrations` that this database has."""
    applied = MigrationRecorder(connection).applied_migrations()
    return [entry for entry in shipped_migrations() if (entry[0], entry[1]) in applied]


def non_empty(tables: Sequence[Table]) -> list[str]:
    """Return the names of the tables that hold a row, apart from what `migrate` itself puts there."""
    existing = set(connection.introspection.table_names())
    quote = connection.ops.quote_name
    found = []
    with connection.cursor() as cursor:
        for table in tables:
            if table.name in existing and not table.is_made_by_migrate:
                cursor.execute(f"SELECT EXISTS (SELECT 1 FROM {quote(table.name)})")  # noqa: S608 (quoted)
                (is_filled,) = cursor.fetchone()
                found += [table.name] if is_filled else []
    return found
