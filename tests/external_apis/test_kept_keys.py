"""Keys that a process keeps for a moment: quick, and dead within a second all the same."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from time import monotonic, sleep
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from external_apis import kept_keys, key_lookup
from external_apis.key_lookup import StoredKey
from external_apis.models import ApiKey, Tenant
from tests.factories import make_key, make_tenant

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    yield
    kept_keys.forget()


def test_a_key_is_looked_up_once() -> None:
    key = make_key()
    first = kept_keys.find_by_token(key.token)
    with CaptureQueriesContext(connection) as queries:
        assert kept_keys.find_by_token(key.token) == first
    assert first is not None
    assert first.id == key.key.pk
    assert len(queries) == 0


def test_what_is_no_key_is_not_kept() -> None:
    key = make_key()
    assert kept_keys.find_by_token(key.token[:-1] + ("a" if key.token[-1] != "a" else "b")) is None
    assert kept_keys.find_by_id("apk_nobody") is None
    assert not kept_keys._shelf._kept


@pytest.mark.parametrize(
    "change",
    [
        lambda key: ApiKey.objects.filter(pk=key.pk).update(revoked_at=timezone.now()),
        lambda key: ApiKey.objects.filter(pk=key.pk).update(scopes=[]),
        lambda key: Tenant.objects.update(is_active=False),
        lambda key: ApiKey.objects.filter(pk=key.pk).delete(),
    ],
    ids=["revoked", "other scopes", "tenant inactive", "deleted"],
)
@pytest.mark.parametrize("how", ["token", "id"])
def test_a_change_that_nobody_announces_counts_within_a_second(change: Callable[[Any], Any], how: str) -> None:
    made = make_key(tenant=make_tenant())
    find = kept_keys.find_by_token if how == "token" else kept_keys.find_by_id
    name = made.token if how == "token" else made.key.pk
    before = find(name)
    change(made.key)
    changed = monotonic()
    while find(name) == before:
        assert monotonic() - changed < 1.0
        sleep(0.02)
    look_up = key_lookup.find_by_token if how == "token" else key_lookup.find_by_id
    assert find(name) == look_up(name)


def test_nothing_is_used_that_the_database_does_not_confirm(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("away")

    key = make_key()
    monkeypatch.setattr(key_lookup, "find_many", fail)
    assert kept_keys.find_by_token(key.token) is not None
    sleep(kept_keys._TRUST_SECONDS + 0.05)
    with CaptureQueriesContext(connection) as queries:
        assert kept_keys.find_by_token(key.token) is not None
    assert len(queries) == 1


def test_the_thread_ends_when_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_keys, "_IDLE_SECONDS", 0.1)
    kept_keys.find_by_token(make_key().token)
    thread = kept_keys._shelf._thread
    assert thread is not None
    thread.join(2)
    assert not thread.is_alive()
    assert kept_keys._shelf._thread is None
    assert not kept_keys._shelf._kept


def test_an_outage_of_the_database_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: object) -> Any:
        raise OperationalError

    shelf = kept_keys._Shelf()
    for _ in range(2):
        with monkeypatch.context() as patched:
            patched.setattr(key_lookup, "find_many", refuse)
            for _ in range(3):
                shelf._confirm({})
        shelf._confirm({})
    assert caplog.text.count("cannot be compared") == 2


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(kept_keys, "monotonic", lambda: now[0])
    return now


def test_a_key_counts_as_of_the_question_and_not_of_the_answer(
    monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    """The answer may be half a second old when it comes, and a revoked key has to be dead within one."""
    look_up = key_lookup.find_many

    def find_slowly(key_ids: Collection[str]) -> dict[str, StoredKey]:
        found = look_up(key_ids)
        clock[0] += 0.5
        return found

    stored = key_lookup.find_by_id(make_key().key.pk)
    assert stored is not None
    shelf, kept = kept_keys._Shelf(), kept_keys._Kept(stored, 0.0, 0.0)
    monkeypatch.setattr(key_lookup, "find_many", find_slowly)
    shelf._confirm({b"name": kept})
    assert (kept.confirmed_at, clock[0]) == (1000.0, 1000.5)


def test_a_key_that_was_looked_up_slowly_is_as_old(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    stored = key_lookup.find_by_id(make_key().key.pk)
    shelf = kept_keys._Shelf()
    shelf._thread = threading.current_thread()  # no other one is started

    def load() -> StoredKey | None:
        clock[0] += 0.5
        return stored

    assert shelf.find(b"name", load) == stored
    assert shelf._kept[b"name"].confirmed_at == 1000.0


def test_a_key_that_is_used_is_kept(clock: list[float]) -> None:
    """Who asks all the time would otherwise be taken for idle a few seconds after the first request."""
    stored = key_lookup.find_by_id(make_key().key.pk)
    assert stored is not None
    shelf = kept_keys._Shelf()
    shelf._kept[b"name"] = kept = kept_keys._Kept(stored, clock[0], clock[0])
    clock[0] += 0.3
    assert shelf.find(b"name", lambda: None) is stored
    assert (kept.used_at, kept.confirmed_at) == (1000.3, 1000.0)
