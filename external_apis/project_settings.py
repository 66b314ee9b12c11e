"""What this product reads of a project's settings: defaults for a project that is not its own, and a check.

`config.settings` sets all of them from the environment. Another project sets the two that have no default,
``ENCRYPTION_KEYS`` and ``REDIS_URL``, and of the others what it likes.
"""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.db import DEFAULT_DB_ALIAS, router

from external_apis import jwt_secrets
from external_apis.crypto import Keyring

__all__ = ["APPS", "check_settings", "fill_in_defaults"]

_DEFAULTS: dict[str, Any] = {
    "ADMIN_API_JWT_TTL": 3600,
    "ADMIN_API_KEY": "",  # none: sessions and stored keys alone
    "ADMIN_API_RATE_LIMIT": 1000,
    "BACKOFFICE_ENABLED": True,
    "BACKUP_KEYS_FILE": "",  # no file of its own for each folder that a command is started in
    "CALLS_KEPT": 200,
    "CALL_SAMPLE_ONE_IN": 100,
    "CONNECT_ALLOWED_ORIGINS": (),
    "DELIVERY_SWEEPS": 2,
    "EGRESS_ALLOW": (),
    "EGRESS_CA_FILE": "",
    "EGRESS_PROXY": "",
    "ENCRYPTION_KEYS": "",
    "ENCRYPTION_KEYS_FILE": "",
    "FAULT_FILE": "",
    "GATEWAY_CALLS_PER_CONNECTION": 64,
    "INBOUND_SWEEPS": 2,
    "JWT_SECRET": "",  # none: no tokens are issued
    "MAX_BODY_BYTES": 2_621_440,
    "METRICS_BY_CONNECTION": False,
    "METRICS_DAYS_KEPT_DAYS": 400,
    "METRICS_HOURS_KEPT_DAYS": 14,
    "METRICS_MINUTES_KEPT_HOURS": 3,
    "METRICS_TOKEN": "",  # none: /metrics is off
    "NOTICES_EMAIL": (),  # none: superusers are told what nobody else is
    "PASSWORD_LOGIN": True,
    "PORT": 8000,
    "PUBLIC_BASE_URL": "",  # callbacks are shown by their path alone
    "REDIS_URL": "",
    "REFRESH_EVERY_SECONDS": 60,
    # What is read from the environment here; another project may read the same from there.
    "SECRET_VARIABLES": (
        "ADMIN_API_KEY",
        "ADMIN_PASSWORD",
        "DATABASE_URL",
        "EGRESS_PROXY",
        "EMAIL_URL",
        "ENCRYPTION_KEYS",
        "JWT_SECRET",
        "METRICS_TOKEN",
        "MIGRATE_DATABASE_URL",
        "OIDC_CLIENT_SECRET",
        "REDIS_URL",
        "SECRET_KEY",
    ),
    "SERVICE_API_ISSUERS": (),
    "SERVICE_API_RATE_LIMIT": 100,
    "SPOOL_DIR": "",  # none: between a token endpoint's answer and the commit a crash loses the answer
    "TRUST_PROXY_HEADERS": False,
    "VISIT_COUNTING": False,
    "WEBHOOK_DELIVERIES_KEPT_DAYS": 30,
    "WEBHOOK_EVENTS_KEPT_DAYS": 30,
    "WEB_THREADS": 16,  # of each process that serves: an eighth of them never waits for providers
    "WORKFLOW_RUNS_KEPT_DAYS": 30,
    "WORKFLOW_SWEEPS": 2,
}
APPS = ("external_apis", "connections")
_REQUIRED = {
    "ENCRYPTION_KEYS": "Set it to id:base64 of 32 random bytes; several are separated by commas, the first one writes.",
    "REDIS_URL": "Set it to the URL of Valkey or Redis, such as redis://127.0.0.1:6379/0.",
}


def fill_in_defaults() -> None:
    """Give each setting that the project does not have its default."""
    for name, value in _DEFAULTS.items():
        if not hasattr(settings, name):
            setattr(settings, name, value)


def check_settings(**_options: Any) -> list[CheckMessage]:
    """Name each setting that is missing or malformed; part of ``manage.py check`` and of every command's start."""
    found: list[CheckMessage] = [
        Error(f"The setting {name} is missing.", hint=hint, id=f"external_apis.E00{number}")
        for number, (name, hint) in enumerate(_REQUIRED.items(), start=1)
        if not getattr(settings, name)
    ]
    if settings.ENCRYPTION_KEYS:
        try:
            Keyring.parse(settings.ENCRYPTION_KEYS)
        except ValueError as error:
            found.append(Error(str(error), hint=_REQUIRED["ENCRYPTION_KEYS"], id="external_apis.E003"))
    if settings.JWT_SECRET:
        try:
            jwt_secrets.parse(settings.JWT_SECRET)
        except ValueError as error:
            hint = "Set it to 32 random bytes or more, or to kid:secret; several are separated by commas."
            found.append(Error(str(error), hint=hint, id="external_apis.E005"))
    return found + _check_routers()


def _check_routers() -> list[CheckMessage]:
    """Transactions, locks and raw statements of this product all go to the default database."""
    astray = {
        (model._meta.app_label, alias)
        for model in apps.get_models(include_auto_created=True)
        if model._meta.app_label in APPS
        for alias in (router.db_for_read(model), router.db_for_write(model))
        if alias != DEFAULT_DB_ALIAS
    }
    return [
        Error(
            f"DATABASE_ROUTERS sends {app} to the database {alias!r}, but it works with {DEFAULT_DB_ALIAS!r} alone.",
            hint=f"Let the routers answer None or {DEFAULT_DB_ALIAS!r} for the models of {' and '.join(APPS)}.",
            id="external_apis.E004",
        )
        for app, alias in sorted(astray)
    ]
