"""A database and a keyring that do not belong together are told apart before anything is written."""

from __future__ import annotations

import base64

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from external_apis.errors import UnknownKey, VaultError
from external_apis.key_registry import register_writing_key, verify_keys

pytestmark = pytest.mark.django_db


def keys(**bytes_of: int) -> str:
    return ",".join(
        f"{key_id}:{base64.b64encode(bytes([number] * 32)).decode()}" for key_id, number in bytes_of.items()
    )


def test_the_database_knows_the_keys_that_sealed_it(settings: Settings) -> None:
    settings.ENCRYPTION_KEYS = keys(a=1)
    verify_keys()
    register_writing_key()
    register_writing_key()
    settings.ENCRYPTION_KEYS = keys(b=2, a=1)
    verify_keys()
    register_writing_key()
    settings.ENCRYPTION_KEYS = keys(b=2)
    with pytest.raises(UnknownKey, match="sealed under encryption key 'a'"):
        verify_keys()


def test_another_key_under_the_same_id_is_noticed_and_nothing_is_written(settings: Settings) -> None:
    settings.ENCRYPTION_KEYS = keys(a=1)
    register_writing_key()
    settings.ENCRYPTION_KEYS = keys(a=2)
    with CaptureQueriesContext(connection) as queries, pytest.raises(VaultError, match="'a' that is not the one"):
        verify_keys()
    assert all(query["sql"].lstrip().upper().startswith("SELECT") for query in queries)
