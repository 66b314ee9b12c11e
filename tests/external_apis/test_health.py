"""``GET /healthz``."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from external_apis.crypto import Keyring
from external_apis.keyring import keyring
from external_apis.models import EncryptionKey
from tests.rest import RestClient

pytestmark = pytest.mark.django_db(transaction=True)


def _ask() -> tuple[int, dict[str, Any]]:
    response = RestClient().get("/healthz")
    return response.status_code, response.json()


def test_all_is_well() -> None:
    checks = {"database": "ok", "encryption_keys": "ok", "valkey": "ok"}
    assert _ask() == (200, {"status": "ok", "checks": checks})
    assert RestClient().head("/healthz").status_code == 200
    assert RestClient().post("/healthz").status_code == 405


def test_it_is_asked_without_https(settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True
    assert RestClient().get("/admin/external-apis").status_code == 301
    assert _ask()[0] == 200


def test_without_valkey(settings: Any) -> None:
    settings.REDIS_URL = "redis://:a-password@127.0.0.1:1/0"
    status, body = _ask()
    assert (status, body["status"], body["checks"]["valkey"]) == (503, "unavailable", "unavailable")
    assert "a-password" not in str(body)


def test_without_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "HOST", "127.0.0.1")
    monkeypatch.setitem(connection.settings_dict, "PORT", "1")
    status, body = _ask()
    assert (status, body["checks"]) == (
        503,
        {"database": "unavailable", "encryption_keys": "unknown", "valkey": "ok"},
    )


def test_a_migration_that_is_not_applied() -> None:
    rows = MigrationRecorder(connection).migration_qs.filter(app="connections", name="0001_initial")
    applied = rows.get().applied
    rows.delete()
    try:
        assert _ask()[1]["checks"]["database"] == "1 migrations are not applied"
    finally:
        row = MigrationRecorder(connection).migration_qs.create(app="connections", name="0001_initial")
        row.applied = applied
        row.save()


def test_a_key_that_is_missing() -> None:
    EncryptionKey.objects.create(id="lost", check_value=bytes(keyring().seal(b"x", "y")))
    status, body = _ask()
    assert status == 503
    assert "'lost'" in body["checks"]["encryption_keys"]


def test_another_key_under_a_registered_id() -> None:
    """Such a process would seal what nobody else can open."""
    stranger = Keyring({keyring().writing_key_id: b"?" * 32})
    key_id = stranger.writing_key_id
    check_value = stranger.seal(b"external-apis", f"external_apis.encryptionkey:{key_id}:check_value")
    EncryptionKey.objects.update_or_create(id=key_id, defaults={"check_value": bytes(check_value)})
    status, body = _ask()
    assert status == 503
    assert "is not the one of that id" in body["checks"]["encryption_keys"]
