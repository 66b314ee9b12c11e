"""``get_env_secret``: what code calls that read ``os.environ["STRIPE_SECRET_KEY"]`` before its value moved in."""

from __future__ import annotations

import os
from collections.abc import Iterable

from django.db import connection as database
from django.db.models import Q, QuerySet
from django.utils import timezone

from connections.models import EnvironmentVariable
from connections.opening import check_usable
from external_apis import audit
from external_apis.errors import NotFound
from external_apis.ids import can_name
from external_apis.providers import require_active

__all__ = ["first_stored", "get_env_secret"]

_PROVIDER_DATA = "provider_data."


def get_env_secret(name: str, *, tenant: str | None = None) -> str:
    """Return the value of a variable: what ``manage.py import_env`` has stored of it, or else the environment's.

    ``tenant`` is an id: its own goes before the whole installation's. An answer of the environment is counted, so that
    ``import_env --report`` knows which variables are still needed; one of the database leaves the audit event of a
    credential that was read, for which it has to be called outside of any transaction (`RuntimeError`). Code that calls
    the provider itself is better off with `get_api_client`, which reads nothing from the database when asked again.

    Raises `NotFound` where neither has it, `ConnectionRevoked` and the like as `get_connection` does for a connection
    that may not be used now, and `VaultError` where the value does not open.
    """
    if can_name(name) and (tenant is None or can_name(tenant)):
        if (found := first_stored(_rows(name, tenant))) is not None:
            row, value = found
            _check_usable(row)
            # Of a value that is no secret as well: whoever takes a run back has to see that it is in use.
            audit.record_reading("credentials.read", row.connection or row.external_api or row, [row.place])
            return value
        answer = os.environ.get(name)
        if answer is not None:
            _count(name, tenant)
            return answer
    raise NotFound(f"{name!a} stands neither in the database nor in the environment.")


def first_stored(rows: Iterable[EnvironmentVariable]) -> tuple[EnvironmentVariable, str] | None:
    """Return which of a variable's rows answers, and what: a tenant's own before everybody's, whichever is there still.

    The rows come with their connections and providers loaded. Raises `VaultError` where the value does not open.
    """
    for row in sorted(rows, key=lambda row: row.tenant_id is None):
        value = _stored_value(row)
        if value is not None:
            return row, value
    return None


def _stored_value(row: EnvironmentVariable) -> str | None:
    value: object = None
    if row.connection is not None and not row.connection.is_deleted and not row.connection.external_api.is_deleted:
        credential = getattr(row.connection, "credential", None)
        if row.place.startswith(_PROVIDER_DATA):
            value = row.connection.provider_data.get(row.place.removeprefix(_PROVIDER_DATA))
        elif credential is not None:
            value = credential.secrets.get(row.place)
    elif row.external_api is not None and not row.external_api.is_deleted:
        value = row.external_api.secrets.get(row.place)
    return value if isinstance(value, str) else None


def _rows(name: str, tenant: str | None) -> QuerySet[EnvironmentVariable]:
    mine = Q(tenant=None) if tenant is None else Q(tenant=None) | Q(tenant_id=tenant)
    paths = ("connection__credential", "connection__external_api", "connection__tenant", "external_api__tenant")
    return EnvironmentVariable.objects.select_related(*paths).filter(mine, name=name)


def _check_usable(row: EnvironmentVariable) -> None:
    if row.connection is not None:
        check_usable(row.connection)
    elif row.external_api is not None:
        require_active(row.external_api.tenant)


def _count(name: str, tenant: str | None) -> None:
    """One statement, also where many ask for the first time at once; a tenant that is none counts for nobody."""
    with database.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO connections_environmentvariable AS known
                (name, tenant_id, place, digest, answered_from_environment, last_answered_from_environment_at)
            VALUES (%(name)s, (SELECT id FROM external_apis_tenant WHERE id = %(tenant)s), '', '', 1, %(now)s)
            ON CONFLICT (name, tenant_id) DO UPDATE SET
                answered_from_environment = known.answered_from_environment + 1,
                last_answered_from_environment_at = excluded.last_answered_from_environment_at
            """,
            {"name": name, "tenant": tenant, "now": timezone.now()},
        )
