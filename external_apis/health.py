"""``GET /healthz``: whether this process can do its work, for load balancers and people."""

from __future__ import annotations

from functools import lru_cache

import psycopg
import redis
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from external_apis import valkey
from external_apis.errors import VaultError
from external_apis.key_registry import compare
from external_apis.models import EncryptionKey

_TIMEOUT_SECONDS = 2
_KEYS_IN_USE = f'SELECT id, check_value FROM "{EncryptionKey._meta.db_table}" WHERE retired_at IS NULL'  # noqa: S608


@csrf_exempt
@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """Answer 200 when everything is there, else 503 that says what is not; never with an address or a secret."""
    checks = {**_database_and_keys(), "valkey": _valkey()}
    is_well = all(outcome == "ok" for outcome in checks.values())
    body = {"status": "ok" if is_well else "unavailable", "checks": checks}
    return JsonResponse(body, status=200 if is_well else 503, headers={"Cache-Control": "no-store"})


def _database_and_keys() -> dict[str, str]:
    # A connection of its own: a pool that is busy is not a database that is away, and would make the probe wait.
    parameters = connection.get_connection_params() | {
        "connect_timeout": _TIMEOUT_SECONDS,
        "options": f"-c statement_timeout={_TIMEOUT_SECONDS * 1000}",
    }
    unknown = {"encryption_keys": "unknown"}
    try:
        with psycopg.connect(**parameters) as own:
            applied = {(row[0], row[1]) for row in own.execute("SELECT app, name FROM django_migrations")}
            if missing := _migrations() - applied:
                return {"database": f"{len(missing)} migrations are not applied", **unknown}
            registered = own.execute(_KEYS_IN_USE).fetchall()
    except psycopg.errors.UndefinedTable:
        return {"database": "not migrated", **unknown}
    except psycopg.Error:
        return {"database": "unavailable", **unknown}
    return {"database": "ok", "encryption_keys": _keys(registered)}


def _keys(registered: list[tuple[str, bytes]]) -> str:
    try:
        compare(registered)
    except VaultError as error:
        return error.message
    except ImproperlyConfigured:
        return "ENCRYPTION_KEYS is malformed"
    return "ok"


def _valkey() -> str:
    try:
        valkey.client().ping()
    except redis.RedisError:
        return "unavailable"
    return "ok"


@lru_cache(maxsize=1)
def _migrations() -> frozenset[tuple[str, str]]:
    """The migrations that this release ships; they do not change while it runs."""
    return frozenset(MigrationLoader(None, ignore_no_migrations=True).disk_migrations)
