"""Whether the product can do its work: ``GET /healthz`` for load balancers, `check_all` for whoever looks closer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import psycopg
import redis
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from external_apis import heartbeats, valkey
from external_apis.errors import ServiceUnavailable, VaultError
from external_apis.key_registry import compare
from external_apis.models import EncryptionKey

__all__ = ["OK", "Check", "add_upkeep", "check_all", "check_services", "check_upkeep", "healthz"]

OK = "ok"
_TIMEOUT_SECONDS = 2
_upkeep: dict[str, Callable[[], str]] = {}
_KEYS_IN_USE = f'SELECT id, check_value FROM "{EncryptionKey._meta.db_table}" WHERE retired_at IS NULL'  # noqa: S608


@dataclass(frozen=True)
class Check:
    """``status`` is ``ok`` or says what is wrong, never with an address or a secret; of a process, when it was last
    heard of."""

    name: str
    status: str
    latency_ms: float
    seconds_since: float | None = None
    is_vital: bool = True
    """Whether nothing goes without it."""

    @property
    def is_ok(self) -> bool:
        return self.status == OK


@csrf_exempt
@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """Answer 200 when everything is there that a request needs, else 503 that says what is not."""
    checks = check_services()
    is_well = all(check.is_ok for check in checks)
    body = {"status": OK if is_well else "unavailable", "checks": {check.name: check.status for check in checks}}
    return JsonResponse(body, status=200 if is_well else 503, headers={"Cache-Control": "no-store"})


def check_services() -> list[Check]:
    """Look at the database, the encryption keys and Valkey."""
    return [*_database_and_keys(), _timed("valkey", _valkey)]


def check_all() -> list[Check]:
    """Look at the worker and the scheduler as well: none is asked, their own signs of life are read.

    And at what `add_upkeep` was told of, where the database is there to ask.
    """
    services = check_services()
    has_database = all(check.is_ok for check in services if check.name == "database")
    upkeep = check_upkeep() if has_database else [Check(name, "unknown", 0.0, is_vital=False) for name in _upkeep]
    return [*services, *(_process(kind) for kind in heartbeats.LIVES_SECONDS), *upkeep]


def add_upkeep(name: str, look: Callable[[], str]) -> None:
    """Have work watched that a floor above does in the background; ``look`` returns `OK` or what is wrong.

    Called by an app that is ready.
    """
    _upkeep[name] = look


def check_upkeep() -> list[Check]:
    """Look at the work in the background. Raises Django's database errors."""
    return [replace(_timed(name, look), is_vital=False) for name, look in _upkeep.items()]


def _database_and_keys() -> Iterator[Check]:
    # A connection of its own: a pool that is busy is not a database that is away, and would make the probe wait.
    parameters = connection.get_connection_params() | {
        "connect_timeout": _TIMEOUT_SECONDS,
        "options": f"-c statement_timeout={_TIMEOUT_SECONDS * 1000}",
    }
    began = time.perf_counter()
    registered: list[tuple[str, bytes]] | None = None
    try:
        with psycopg.connect(**parameters) as own:
            applied = {(row[0], row[1]) for row in own.execute("SELECT app, name FROM django_migrations")}
            if missing := _migrations() - applied:
                status = f"{len(missing)} migrations are not applied"
            else:
                registered = own.execute(_KEYS_IN_USE).fetchall()
                status = OK
    except psycopg.errors.UndefinedTable:
        status = "not migrated"
    except psycopg.Error:
        status = "unavailable"
    yield Check("database", status, _since(began))
    yield _timed("encryption_keys", lambda: "unknown" if registered is None else _keys(registered))


def _keys(registered: list[tuple[str, bytes]]) -> str:
    try:
        compare(registered)
    except VaultError as error:
        return error.message
    except ImproperlyConfigured:
        return "ENCRYPTION_KEYS is malformed"
    return OK


def _valkey() -> str:
    try:
        valkey.client().ping()
    except redis.RedisError:
        return "unavailable"
    return OK


def _process(kind: str) -> Check:
    began = time.perf_counter()
    try:
        since = heartbeats.seconds_since(kind)
    except ServiceUnavailable:
        return Check(kind, "unknown", _since(began))
    return Check(kind, "silent" if since is None else OK, _since(began), since)


def _timed(name: str, look: Callable[[], str]) -> Check:
    began = time.perf_counter()
    status = look()
    return Check(name, status, _since(began))


def _since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 2)


@lru_cache(maxsize=1)
def _migrations() -> frozenset[tuple[str, str]]:
    """The migrations that this release ships; they do not change while it runs."""
    return frozenset(MigrationLoader(None, ignore_no_migrations=True).disk_migrations)
