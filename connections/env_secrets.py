"""``get_env_secret``: what code calls that read ``os.environ["STRIPE_SECRET_KEY"]`` before its value moved in."""

from __future__ import annotations

import os

from django.db import connection as database
from django.db.models import Q
from django.utils import timezone

from connections.models import EnvironmentVariable
from connections.opening import check_usable
from external_apis import audit
from external_apis.errors import NotFound
from external_apis.ids import can_name
from external_apis.providers import require_active

__all__ = ["get_env_secret", "stored_value"]

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
        row = _find(name, tenant)
        value = None if row is None else stored_value(row)
        if row is not None and value is not None:
            _check_usable(row)
            # Of a value that is no secret as well: whoever takes a run back has to see that it is in use.
            audit.record_reading("credentials.read", row.connection or row.external_api or row, [row.place])
            return value
        answer = os.environ.get(name)
        if answer is not None:
            _count(name, tenant)
            return answer
    raise NotFound(f"{name!a} stands neither in the database nor in the environment.")


def stored_value(row: EnvironmentVariable) -> str | None:
    """Return what is stored in a variable's place now, with its connection or provider loaded; None where it is gone.

    Raises `VaultError` where it does not open.
    """
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


def _find(name: str, tenant: str | None) -> EnvironmentVariable | None:
    mine = Q(tenant=None) if tenant is None else Q(tenant=None) | Q(tenant_id=tenant)
    paths = ("connection__credential", "connection__external_api", "connection__tenant", "external_api__tenant")
    found = EnvironmentVariable.objects.select_related(*paths).filter(mine, name=name)
    return min(found, key=lambda row: (_is_gone(row), row.tenant_id is None), default=None)


def _is_gone(row: EnvironmentVariable) -> bool:
    return row.connection_id is None and row.external_api_id is None


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
