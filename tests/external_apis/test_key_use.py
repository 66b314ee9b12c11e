"""When keys were last used, keys that grow old, and addresses that keep failing: noted in Valkey, told once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.utils import timezone

from external_apis import key_upkeep, key_use, keys, valkey
from external_apis.authentication import authenticate_token
from external_apis.errors import InvalidApiKey, NotAuthenticated, ServiceUnavailable, TokenExpired
from external_apis.models import AuditEvent
from external_apis.tokens import issue_jwt
from tests.factories import make_key, make_tenant
from tests.rest import RestClient

pytestmark = pytest.mark.django_db
HOME = "127.0.0.1"


@pytest.fixture(autouse=True)
def _nothing_noted() -> None:
    client = valkey.client()
    client.delete(key_use._USES, key_use._TAKEN, *client.scan_iter(f"{valkey.PREFIX}{{failing:*"))


class TestLastUse:
    def test_a_use_costs_no_write_and_reaches_the_row_later(self, django_assert_num_queries: Any) -> None:
        made = make_key()
        with django_assert_num_queries(1):
            authenticate_token(made.token, "192.0.2.1")
        assert keys.find(made.key.pk).last_used_at is None
        assert key_upkeep.roll_up_uses() == 1
        key = keys.find(made.key.pk)
        assert key.last_used_from == "192.0.2.1"
        assert key.last_used_at
        assert abs(key.last_used_at - timezone.now()) < timedelta(seconds=5)
        assert key.updated_at == made.key.updated_at
        assert key_upkeep.roll_up_uses() == 0

    def test_a_jwt_uses_its_key(self) -> None:
        made = make_key()
        jwt = issue_jwt(authenticate_token(made.token, HOME)).token
        key_upkeep.roll_up_uses()
        key_use.forget()
        authenticate_token(jwt, "192.0.2.2")
        key_upkeep.roll_up_uses()
        assert keys.find(made.key.pk).last_used_from == "192.0.2.2"

    def test_a_rolled_keys_remaining_use_is_seen(self) -> None:
        made = make_key()
        keys.roll(made.key, 3600)
        authenticate_token(made.token, "192.0.2.3")
        key_upkeep.roll_up_uses()
        assert keys.find(made.key.pk).last_used_from == "192.0.2.3"

    def test_many_uses_are_one_round_trip(self) -> None:
        made = make_key()
        for _ in range(5):
            authenticate_token(made.token, HOME)
        before = int(valkey.client().info("commandstats")["cmdstat_hset"]["calls"])
        for _ in range(50):
            authenticate_token(made.token, HOME)
        assert int(valkey.client().info("commandstats")["cmdstat_hset"]["calls"]) == before

    def test_a_roll_up_that_breaks_off_is_made_up_for(self) -> None:
        made = make_key()
        authenticate_token(made.token, HOME)
        with pytest.raises(ZeroDivisionError), key_use.drain_uses() as uses:
            raise ZeroDivisionError(uses)
        assert key_upkeep.roll_up_uses() == 1

    def test_an_older_use_does_not_replace_a_newer_one(self) -> None:
        made = make_key()
        authenticate_token(made.token, HOME)
        key_upkeep.roll_up_uses()
        newest = keys.find(made.key.pk).last_used_at
        valkey.client().hset(key_use._USES, made.key.pk, "1000000000.0 192.0.2.9")
        assert key_upkeep.roll_up_uses() == 0
        assert keys.find(made.key.pk).last_used_at == newest

    def test_without_valkey_keys_work_and_nothing_is_noted(self, settings: Any) -> None:
        made = make_key()
        settings.REDIS_URL = "redis://127.0.0.1:1/0"
        assert authenticate_token(made.token, HOME)
        with pytest.raises(InvalidApiKey):
            authenticate_token("x", HOME)
        with pytest.raises(ServiceUnavailable):
            key_upkeep.roll_up_uses()


class TestFailures:
    @pytest.fixture
    def told(self) -> Iterator[list[str]]:
        told: list[str] = []

        def listen(sender: Any, address: str, **kwargs: Any) -> None:
            told.append(address)

        key_use.authentication_failing.connect(listen)
        yield told
        key_use.authentication_failing.disconnect(listen)

    def test_the_tenth_failure_within_a_minute_is_told_once(self, told: list[str]) -> None:
        for _ in range(9):
            with pytest.raises(InvalidApiKey):
                authenticate_token("sk_live_guess", HOME)
        assert told == []
        for _ in range(15):
            with pytest.raises(NotAuthenticated):
                authenticate_token("a.b.c", HOME)
        assert told == [HOME]
        event = AuditEvent.objects.get(action="authentication.failing")
        assert (event.object_type, event.object_id) == ("address", HOME)
        assert "guess" not in str(event.changes)

    def test_an_event_that_cannot_be_written_changes_no_answer_and_is_made_up_for(
        self, told: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE external_apis_auditevent ADD CONSTRAINT no_event CHECK (action = '') NOT VALID")
        client = RestClient(headers={"Authorization": "Bearer sk_live_guess"})
        for _ in range(11):
            assert client.get("/api/external/auth/me", REMOTE_ADDR=HOME).status_code == 401
        assert told == []
        assert "cannot be written" in caplog.text
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE external_apis_auditevent DROP CONSTRAINT no_event")
        assert client.get("/api/external/auth/me", REMOTE_ADDR=HOME).status_code == 401
        assert told == [HOME]

    def test_failures_that_lie_further_apart_are_none(self, told: list[str]) -> None:
        times = f"{valkey.PREFIX}{{failing:{HOME}}}:times"
        seconds = int(valkey.client().time()[0])
        valkey.client().rpush(times, *[seconds - 61] * 9)
        key_use.note_failure(HOME, InvalidApiKey("x"))
        assert told == []
        valkey.client().delete(times)
        valkey.client().rpush(times, *[seconds - 58] * 9)
        key_use.note_failure(HOME, InvalidApiKey("x"))
        assert told == [HOME]

    def test_addresses_count_apart_and_an_expired_token_not_at_all(self, told: list[str]) -> None:
        first, second = "192.0.2.1", "2001:db8::1"
        for _ in range(9):
            key_use.note_failure(first, InvalidApiKey("x"))
            key_use.note_failure(second, InvalidApiKey("x"))
            key_use.note_failure(first, TokenExpired("x"))
        assert told == []

    def test_an_ipv6_network_counts_as_one_address(self, told: list[str]) -> None:
        for number in range(10):
            key_use.note_failure(f"2001:db8:0:1::{number:x}", InvalidApiKey("x"))
        assert told == ["2001:db8:0:1::/64"]
        assert AuditEvent.objects.get(action="authentication.failing").object_id == "2001:db8:0:1::/64"

    @pytest.mark.django_db(transaction=True)
    def test_many_at_once_are_told_once(self, told: list[str]) -> None:
        barrier = threading.Barrier(8)

        def fail() -> None:
            barrier.wait()
            for _ in range(5):
                key_use.note_failure(HOME, InvalidApiKey("x"))
            connection.close()

        _together(fail, 8)
        assert told == [HOME]
        assert AuditEvent.objects.filter(action="authentication.failing").count() == 1


class TestAge:
    @pytest.fixture
    def told(self) -> Iterator[list[str]]:
        told: list[str] = []

        def listen(sender: Any, key_id: str, tenant_id: str | None, **kwargs: Any) -> None:
            told.append(key_id)

        key_upkeep.key_aged.connect(listen)
        yield told
        key_upkeep.key_aged.disconnect(listen)

    @pytest.mark.django_db(transaction=True)
    def test_a_key_older_than_ninety_days_is_told_of_once(self, told: list[str]) -> None:
        key = make_key(tenant=make_tenant()).key
        with time_machine.travel(key.created_at + timedelta(days=90, seconds=-1)):
            assert key_upkeep.tell_of_old_keys() == 0
        with time_machine.travel(key.created_at + timedelta(days=90)):
            barrier = threading.Barrier(4)

            def tell() -> None:
                barrier.wait()
                key_upkeep.tell_of_old_keys()
                connection.close()

            _together(tell, 4)
        assert told == [key.pk]
        event = AuditEvent.objects.get(action="api_key.aged")
        assert (event.object_id, event.tenant_id, event.actor) == (key.pk, key.tenant_id, "system")

    def test_a_row_that_cannot_be_read_keeps_no_other_back(self) -> None:
        bad, good = make_key().key, make_key().key
        with connection.cursor() as cursor:
            cursor.execute("UPDATE external_apis_apikey SET updated_at = '10000-01-01' WHERE id = %s", [bad.pk])
        with time_machine.travel(timezone.now() + timedelta(days=91)):
            assert key_upkeep.tell_of_old_keys() == 1
        assert AuditEvent.objects.get(action="api_key.aged").object_id == good.pk

    def test_a_dead_key_may_be_as_old_as_it_likes(self) -> None:
        revoked, expired = make_key(), make_key(expires_at=timezone.now() + timedelta(days=1))
        keys.revoke(revoked.key)
        with time_machine.travel(timezone.now() + timedelta(days=91)):
            assert key_upkeep.tell_of_old_keys() == 0
        assert keys.visible().filter(pk=expired.key.pk).exists()


def _together(target: Any, count: int) -> None:
    threads = [threading.Thread(target=target) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
