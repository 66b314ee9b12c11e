"""Real PostgreSQL and Valkey for the whole run, started before Django reads its settings and gone with pytest.

``TEST_DATABASE_URL`` (a role that may create databases) and ``TEST_REDIS_URL`` name servers to use instead.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import environ
import psycopg
import pytest
from django.conf import settings
from django.test import TransactionTestCase
from pytest_django import DjangoDbBlocker

from config import embedded, runtime
from external_apis import changes, keyring, request_context
from external_apis.data_keys import data_keys
from tests.emptying import Emptying

_OURS = [
    "DATABASE_URL",
    "REDIS_URL",
    "MIGRATE_DATABASE_URL",
    "SECRET_KEY",
    "ENCRYPTION_KEYS",
    "BACKUP_KEYS_FILE",
    "BACKUP_PASSPHRASE",
    "JWT_SECRET",
    "ADMIN_API_KEY",
    "ADMIN_PASSWORD",
    "PUBLIC_BASE_URL",
    "ALLOWED_HOSTS",
    "EGRESS_ALLOW",
    "EGRESS_PROXY",
    "EGRESS_CA_FILE",
    "PASSWORD_LOGIN",
    "OIDC_ISSUER",
    "OIDC_CLIENT_ID",
    "OIDC_CLIENT_SECRET",
    "OIDC_EXTRA_SCOPES",
    "OIDC_STAFF_CLAIM",
    "OIDC_STAFF_VALUE",
    "OIDC_SUPERUSER_VALUE",
    "OIDC_TENANT_CLAIM",
    "OIDC_GROUPS_CLAIM",
    "OIDC_TRUST_EMAIL",
    "METRICS_TOKEN",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "DEBUG",
    "VAR_DIR",
    "PORT",
    "SANDBOX",
    "SANDBOX_URL",
    "CONNECT_ALLOWED_ORIGINS",
    "SERVICE_API_RATE_LIMIT",
    "SERVICE_API_ISSUERS",
]
pytest_plugins = ["tests.garbage", "tests.order", "tests.oidc_provider", "tests.sandbox", "tests.web"]
_services = ExitStack()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Set the environment, then load settings: pytest-django takes over from there."""
    if config.getoption("numprocesses", None):
        # The processes that pytest-xdist starts run the tests, each with servers of its own.
        if "TEST_DATABASE_URL" in os.environ:
            raise pytest.UsageError("Servers of your own are for one process: make test ARGS='-n 0'.")
        return
    for name in _OURS:
        os.environ.pop(name, None)
        os.environ.pop(f"{name}_FILE", None)
    folder = Path(tempfile.mkdtemp(prefix="eam-tests-"))
    _services.callback(shutil.rmtree, folder, ignore_errors=True)
    os.environ.update(VAR_DIR=str(folder), DATABASE_POOL_SIZE="0", DJANGO_SETTINGS_MODULE="config.settings")
    runtime.prepare(folder)
    _services.callback(shutil.rmtree, runtime.socket_dir(folder), ignore_errors=True)
    if "TEST_DATABASE_URL" in os.environ:
        external = {name: os.environ[f"TEST_{name}"] for name in ("DATABASE_URL", "REDIS_URL")}
        os.environ.update(runtime.environment(folder) | external | {"MIGRATE_DATABASE_URL": external["DATABASE_URL"]})
    else:
        _services.enter_context(embedded.serve(folder, durable=False))
        _let_owner_create_databases(folder)
    _use_owner_role()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the servers after the last fixture is torn down."""
    _services.close()


@pytest.fixture(scope="session")
def django_db_modify_db_settings_xdist_suffix() -> None:
    """Every worker of pytest-xdist has servers of its own, so its database needs no name of its own."""


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Empty the database after tests that commit in a quicker way than Django's."""
    with django_db_blocker.unblock():
        emptying = Emptying()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda _: emptying.empty())
        yield


@pytest.fixture(autouse=True)
def _nobody_acts_from_another_test() -> None:
    """Authentication that is called outside of a request names its actor for the rest of the thread."""
    request_context._current.set(request_context.RequestContext())


@pytest.fixture(autouse=True)
def _no_endpoints_of_another_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port on which a server of an earlier test was silent may be another one's now."""
    from connections.oauth import sweep
    from connections.oauth.endpoints import Endpoints

    monkeypatch.setattr(sweep, "_endpoints", Endpoints())


@pytest.fixture(autouse=True)
def _no_connections_of_another_test() -> None:
    """Emptying the tables is no change that anybody announces."""
    changes.forget_everything()


@pytest.fixture(autouse=True)
def _no_keys_of_another_test() -> None:
    """The rows of the data keys go with each test, and so do the opened ones, and keys that were read again."""
    data_keys().forget()
    keyring._source.cache_clear()


@pytest.fixture(autouse=True)
def _no_api_keys_of_another_test() -> None:
    from external_apis import key_lookup, key_use  # they need the settings, which are not loaded above

    key_lookup.forget()
    key_use.forget()


def _let_owner_create_databases(folder: Path) -> None:
    url = runtime.postgres_url(runtime.socket_dir(folder), "postgres", "postgres")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"ALTER ROLE {runtime.OWNER_ROLE} CREATEDB")


def _use_owner_role() -> None:
    """The test database is made, migrated and used by one role; tests/config covers the app role's rights."""
    owner = environ.Env.db_url_config(settings.MIGRATE_DATABASE_URL)
    settings.DATABASES["default"].update({name: owner[name] for name in ("USER", "PASSWORD", "HOST", "PORT")})
    # Each test client builds the middleware anew, which would list every static file each time.
    settings.WHITENOISE_AUTOREFRESH = True
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
