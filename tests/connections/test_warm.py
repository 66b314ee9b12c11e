"""A warm `get_api_client` asks the database nothing, and sees a change within a second, in every process."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from connections import versions, warm
from connections.models import ConnectionStatus, ExternalApiConnection
from connections.services import delete_connection, get_api_client, update_connection
from external_apis import changes, valkey
from external_apis.data_keys import data_keys
from external_apis.errors import (
    Conflict,
    ConnectionExpired,
    ConnectionInactive,
    ConnectionRevoked,
    NotFound,
)
from external_apis.providers import update_external_api
from tests.factories import make_connection, make_provider, make_tenant


@pytest.fixture
def stored(transactional_db: None) -> ExternalApiConnection:
    warm._start_afresh()  # an earlier test may have met a Valkey that was away, and this process remembers for 2 s
    return make_connection(make_provider(slug="stripe"), slug="default", credentials={"access_token": "first-token"})


def count_queries(reference: str, **who: Any) -> int:
    with CaptureQueriesContext(connection) as queries:
        get_api_client(reference, **who)
    return len(queries)


def count_warm_queries(reference: str) -> int:
    """A process that was kept from hearing the news for a moment asks the database again: the best of a few counts."""
    return min(count_queries(reference) for _ in range(5))


def token(reference: str = "stripe/default") -> str:
    return get_api_client(reference).target.credentials["access_token"]


@pytest.mark.parametrize("reference", ["stripe/default", "stripe"])
def test_a_cold_one_takes_two_queries_and_a_warm_one_none(stored: Any, reference: str) -> None:
    data_keys().forget()
    assert count_queries(reference) == 2
    assert count_warm_queries(reference) == 0
    assert get_api_client(reference).target.connection_id == stored.pk


def test_each_caller_has_a_client_of_its_own(stored: Any) -> None:
    assert get_api_client("stripe") is not get_api_client("stripe")


def test_an_id_takes_two_queries_and_then_none(stored: ExternalApiConnection) -> None:
    data_keys().forget()
    assert count_queries(stored.pk) == 2
    assert count_warm_queries(stored.pk) == 0


def test_a_tenant_has_its_own(stored: Any) -> None:
    tenant = make_tenant()
    own = make_connection(make_provider(slug="stripe", tenant=tenant), tenant=tenant, slug="default")
    for _ in range(2):
        assert get_api_client("stripe/default", tenant=tenant.pk).target.connection_id == own.pk
        assert get_api_client("stripe/default").target.connection_id == stored.pk


def test_this_process_sees_its_own_changes_at_once(stored: ExternalApiConnection) -> None:
    assert token() == "first-token"
    update_connection(stored, {"credentials": {"access_token": "second-token"}})
    assert token() == "second-token"
    update_external_api(stored.external_api, {"api_config": {"base_url": "https://other.example.com"}})
    assert get_api_client("stripe").target.config.base_url == "https://other.example.com"
    update_connection(stored, {"status": "revoked"})
    with pytest.raises(ConnectionRevoked):
        get_api_client("stripe/default")
    update_connection(stored, {"status": "active"})
    get_api_client("stripe/default")
    update_external_api(stored.external_api, {"status": "inactive"})
    with pytest.raises((NotFound, ConnectionInactive)):
        get_api_client("stripe/default")


def test_what_a_reference_means_may_change(stored: ExternalApiConnection) -> None:
    assert token("stripe") == "first-token"
    second = make_connection(stored.external_api, slug="second")
    with pytest.raises(Conflict):
        get_api_client("stripe")
    delete_connection(second)
    assert token("stripe") == "first-token"
    tenant = make_tenant()
    assert get_api_client("stripe", tenant=tenant.pk).target.connection_id == stored.pk
    own = make_connection(make_provider(slug="stripe", tenant=tenant), tenant=tenant)
    assert get_api_client("stripe", tenant=tenant.pk).target.connection_id == own.pk


def test_what_expires_while_it_is_kept_is_not_used(stored: ExternalApiConnection) -> None:
    update_connection(stored, {"credentials": {"expires_at": (timezone.now() + timedelta(seconds=0.3)).isoformat()}})
    assert token() == "first-token"
    time.sleep(0.35)
    with pytest.raises(ConnectionExpired):
        get_api_client("stripe/default")


def test_a_transaction_sees_its_own_changes_and_leaves_nothing_behind(stored: ExternalApiConnection) -> None:
    with transaction.atomic():
        assert token() == "first-token"
        update_connection(stored, {"credentials": {"access_token": "never-committed"}})
        assert token() == "never-committed"
        transaction.set_rollback(True)
    assert token() == "first-token"


def test_what_is_kept_is_bounded(stored: ExternalApiConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "_MOST", 3)
    for number in range(10):
        get_api_client("stripe/default", user=f"user_{number}")
    assert len(warm._shelf._kept) == 3


def test_what_was_read_before_the_news_is_not_kept(stored: ExternalApiConnection) -> None:
    """A change that commits while a connection is read, or after that, has been announced before it is kept."""
    token()
    ((key, kept),) = warm._shelf._kept.items()
    shelf = warm._Shelf()
    try:
        before = shelf.watch.news_count
        shelf.watch.hear([stored.pk])
        shelf.keep(key, kept, before)
        assert shelf._kept == {}
        shelf.keep(key, kept, shelf.watch.news_count)
        assert shelf._kept == {key: kept}
    finally:
        shelf.watch.close()


def test_without_valkey_the_database_is_asked_each_time(stored: ExternalApiConnection, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    warm._start_afresh()
    try:
        for _ in range(3):
            assert count_queries("stripe/default") == 2
        ExternalApiConnection.objects.filter(pk=stored.pk).update(status=ConnectionStatus.REVOKED)
        with pytest.raises(ConnectionRevoked):
            get_api_client("stripe/default")
    finally:
        warm._start_afresh()


def test_nothing_kept_is_used_when_valkey_falls_silent(stored: ExternalApiConnection) -> None:
    token()
    assert count_warm_queries("stripe/default") == 0
    valkey.client().client_pause(1500)
    time.sleep(1.3)
    assert count_queries("stripe/default") == 2
    deadline = time.monotonic() + 5
    while count_queries("stripe/default") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert count_queries("stripe/default") == 0


def warmed() -> None:
    """Use the connection until it is kept, and has been compared with the database once."""
    token()
    time.sleep(2 * warm._COMPARE_SECONDS)
    assert count_warm_queries("stripe/default") == 0


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("UPDATE connections_externalapiconnection SET status = 'revoked'", ConnectionRevoked),
        ("UPDATE connections_externalapiconnection SET deleted_at = now()", NotFound),
        ("UPDATE external_apis_externalapi SET status = 'inactive'", NotFound),
        ("UPDATE external_apis_tenant SET is_active = false", (NotFound, ConnectionInactive)),
        ("UPDATE connections_externalapicredential SET expires_at = now() - interval '1 hour'", ConnectionExpired),
    ],
)
def test_what_nobody_announced_is_seen_within_a_second(transactional_db: None, change: str, error: Any) -> None:
    """As by `QuerySet.update`, by SQL, and by a process that was killed before it could tell, or could not."""
    warm._start_afresh()
    tenant = make_tenant()
    make_connection(make_provider(slug="stripe", tenant=tenant), tenant=tenant, slug="default")
    get_api_client("stripe/default", tenant=tenant.pk)
    time.sleep(2 * warm._COMPARE_SECONDS)
    with connection.cursor() as cursor:
        cursor.execute(change)
    time.sleep(1)
    with pytest.raises(error):
        get_api_client("stripe/default", tenant=tenant.pk)


def test_a_change_is_seen_although_valkey_takes_no_writes(
    stored: ExternalApiConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    warmed()
    monkeypatch.setattr(changes, "_watches", [])  # as in any other process
    valkey.client().config_set("min-replicas-to-write", 1)
    try:
        update_connection(stored, {"status": "revoked"})
        time.sleep(1)
        with pytest.raises(ConnectionRevoked):
            get_api_client("stripe/default")
    finally:
        valkey.client().config_set("min-replicas-to-write", 0)


def test_nothing_is_kept_when_the_database_cannot_be_compared_with(
    stored: ExternalApiConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OperationalError("away")

    warmed()
    monkeypatch.setattr(versions, "current", fail)
    time.sleep(1)
    assert warm._shelf._kept == {}


def test_a_forked_child_keeps_nothing_of_its_parent(stored: ExternalApiConnection) -> None:
    token()
    connection.close()
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writer, str(len(warm._shelf._kept)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 10) == b"0"
    assert len(warm._shelf._kept) == 1


OTHER = """
import json, sys
from config import settings as _  # noqa
import django
from django.conf import settings
settings.DATABASES["default"].update(json.loads(sys.argv[1]))
django.setup()
from django.db import connection
from django.test.utils import CaptureQueriesContext
from connections.services import get_api_client
from external_apis.errors import ApiManagerError
for line in sys.stdin:
    with CaptureQueriesContext(connection) as queries:
        try:
            said = get_api_client(line.strip()).target.credentials["access_token"]
        except ApiManagerError as error:
            said = error.code
    print(json.dumps([said, len(queries)]), flush=True)
"""


@pytest.fixture
def other() -> Iterator[Callable[[str], tuple[str, int]]]:
    """A second process: what `get_api_client` gives there, and the queries that it took."""
    database = {name: str(connection.settings_dict[name]) for name in ("NAME", "USER", "PASSWORD", "HOST", "PORT")}
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, json.dumps(database)],
        cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None

    def ask(reference: str) -> tuple[str, int]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{reference}\n")
        process.stdin.flush()
        assert select.select([process.stdout], [], [], 20)[0], "the other process is silent"
        said, queries = json.loads(process.stdout.readline())
        return said, queries

    yield ask
    process.kill()
    process.wait(10)
    process.stdin.close()
    process.stdout.close()


def test_another_process_sees_a_change_and_a_revocation_within_a_second(
    stored: ExternalApiConnection, other: Callable[[str], tuple[str, int]]
) -> None:
    def change(said: str, **body: Any) -> None:
        update_connection(stored, body)
        changed = time.monotonic()
        while other("stripe/default")[0] != said:
            assert time.monotonic() - changed < 1
            time.sleep(0.01)

    said, queries = other("stripe/default")
    assert said == "first-token"
    assert queries <= 3  # a new process fetches the data key too
    while other("stripe/default") != ("first-token", 0):
        time.sleep(0.01)
    change("second-token", credentials={"access_token": "second-token"})
    while other("stripe/default") != ("second-token", 0):  # connection and credential are two pieces of news
        time.sleep(0.01)
    change(ConnectionRevoked.code, status="revoked")


def test_an_outage_of_the_database_is_told_once(
    stored: ExternalApiConnection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: object) -> Any:
        raise OperationalError

    warm.open_client(stored.pk, None, None, None, None)
    kept = dict(warm._shelf._kept)
    shelf = warm._Shelf()
    for _ in range(2):
        with monkeypatch.context() as patched:
            patched.setattr(versions, "current", refuse)
            for _ in range(3):
                shelf._kept = dict(kept)
                shelf._compare()
                assert not shelf._kept
        shelf._kept = dict(kept)
        shelf._compare()
        assert shelf._kept == kept
    assert caplog.text.count("cannot be compared") == 2
