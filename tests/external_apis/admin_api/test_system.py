"""``/api/external/system``: health, self-tests, caches and the audit log."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import transaction

from external_apis import audit, changes, heartbeats, paging, valkey
from external_apis.models import AuditEvent
from tests.envelope import EXTERNAL, checked, client_of, data_of, failure_of, named_by
from tests.factories import make_key, make_provider, make_tenant
from tests.rest import RestClient, with_key

HEALTH, TESTS = f"{EXTERNAL}/system/health", f"{EXTERNAL}/system/tests"
CLEAR, AUDIT_LOG = f"{EXTERNAL}/system/cache/clear", f"{EXTERNAL}/system/audit-log"


@pytest.fixture
def _alive() -> None:
    for kind in heartbeats.LIVES_SECONDS:
        heartbeats.note(kind)


@pytest.mark.django_db(transaction=True)
class TestHealth:
    @pytest.mark.usefixtures("_alive")
    def test_all_is_well(self) -> None:
        data = data_of(RestClient().get(HEALTH))
        assert data["status"] == "ok"
        upkeep = {"renewals", "spool", "notices"}
        assert set(data["checks"]) == {"database", "encryptionKeys", "valkey", *heartbeats.LIVES_SECONDS} | upkeep
        for check in data["checks"].values():
            assert check["status"] == "ok"
            assert 0 <= check["latencyMs"] < 5_000
        assert 0 <= data["checks"]["worker"]["secondsSince"] < 5

    def test_silence_is_noticed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        heartbeats.note("beat")
        heartbeats.note("slowWorker")
        monkeypatch.setitem(heartbeats.LIVES_SECONDS, "worker", 0.05)
        heartbeats.note("worker")
        assert heartbeats.seconds_since("worker") is not None
        deadline = time.monotonic() + 5
        while heartbeats.seconds_since("worker") is not None:
            assert time.monotonic() < deadline
        response = RestClient().get(HEALTH)
        assert failure_of(response) == (503, "SERVICE_UNAVAILABLE")
        checks = response.json()["error"]["details"]["checks"]
        assert [name for name, check in checks.items() if check["status"] != "ok"] == ["worker"]
        assert checks["worker"]["status"] == "silent"

    def test_without_valkey(self, settings: Any) -> None:
        settings.REDIS_URL = "redis://:a-password@127.0.0.1:1/0"
        response = RestClient().get(HEALTH)
        assert failure_of(response) == (503, "SERVICE_UNAVAILABLE")
        checks = response.json()["error"]["details"]["checks"]
        assert [checks[name]["status"] for name in ("database", "valkey", "worker")] == ["ok", "unavailable", "unknown"]
        assert b"a-password" not in response.content


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_alive")
class TestSelfTests:
    def test_get_runs_those_that_only_read(self) -> None:
        make_provider(api_config={"api_key": {"key": "a key of the provider"}})
        events = AuditEvent.objects.count()
        data = data_of(with_key().get(TESTS))
        assert (data["failed"], data["passed"]) == (0, len(data["results"]))
        assert {"rate_limiter", "audit_log"}.isdisjoint(result["name"] for result in data["results"])
        assert all(result["durationMs"] >= 0 and result["isPassed"] for result in data["results"])
        assert AuditEvent.objects.count() == events

    def test_post_runs_all_or_the_named_ones(self) -> None:
        every = data_of(with_key().send("post", TESTS))
        assert every["failed"] == 0, every
        assert {"rate_limiter", "audit_log", "database"} <= {result["name"] for result in every["results"]}
        some = data_of(with_key().send("post", TESTS, {"tests": ["valkey", "tokens"]}))
        assert [result["name"] for result in some["results"]] == ["valkey", "tokens"]
        assert not AuditEvent.objects.filter(action="system.tested").exists()

    @pytest.mark.parametrize("tests", [["nothing"], "valkey", [1], ["x" * 10_000], None])
    def test_a_test_that_there_is_not_is_named(self, tests: Any) -> None:
        response = with_key().send("post", TESTS, {"tests": tests})
        assert failure_of(response) == (400, "VALIDATION_ERROR")
        assert named_by(response)[0].startswith("tests")
        assert len(response.content) < 2_000

    def test_what_fails_says_why_and_no_more(self, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
        def fail(holder: Any) -> None:
            raise OSError("host db.internal")

        monkeypatch.setattr("external_apis.self_tests.tokens.issue_jwt", fail)
        valkey.client().delete(f"{valkey.PREFIX}alive:worker")
        data = data_of(with_key().get(TESTS))
        failed = {result["name"]: result["message"] for result in data["results"] if not result["isPassed"]}
        assert failed == {
            "tokens": "OSError; the log tells more",
            "worker": "No worker has given a sign of life.",
        }
        assert data["failed"] == 2


@pytest.mark.django_db(transaction=True)
def test_clearing_the_caches() -> None:
    for number in range(3):
        make_tenant(f"t-{number}")
    client = with_key()
    client.get(f"{EXTERNAL}/tenants?perPage=1")
    assert list(valkey.client().scan_iter(f"{paging.TOTAL_KEYS}*"))
    heard: list[Any] = []
    watch = changes.Watch(heard.append, lambda: True)
    try:
        data = data_of(client.send("post", CLEAR))
    finally:
        watch.close()
    assert "totals" in data["cleared"]
    assert not list(valkey.client().scan_iter(f"{paging.TOTAL_KEYS}*"))
    # What another process is told stands in the stream; None means everything.
    assert heard == [None]
    stream: Any = valkey.client().xrevrange(f"{valkey.PREFIX}changes", count=1)
    assert stream[0][1][b"names"] == b"*"
    event = AuditEvent.objects.get(action="cache.cleared")
    assert (event.actor, event.address) == ("key:ADMIN_API_KEY", "127.0.0.1")
    assert failure_of(client_of(make_key(tenant=make_tenant()).token).send("post", CLEAR)) == (403, "FORBIDDEN")


@pytest.mark.django_db
class TestAuditLog:
    def test_an_event(self) -> None:
        answer = data_of(with_key().send("post", f"{EXTERNAL}/tenants", {"name": "Acme", "slug": "acme"}), 201)
        (event,) = data_of(with_key().get(AUDIT_LOG))
        assert event == {
            "id": event["id"],
            "at": event["at"],
            "actor": "key:ADMIN_API_KEY",
            "apiKeyId": "ADMIN_API_KEY",
            "address": "127.0.0.1",
            "requestId": event["requestId"],
            "action": "tenant.created",
            "objectType": "tenant",
            "objectId": answer["id"],
            "tenantId": answer["id"],
            "changes": {"slug": [None, "acme"], "name": [None, "Acme"], "is_active": [None, "True"]},
        }

    def test_filters(self) -> None:
        tenants = [make_tenant(), make_tenant()]
        key = make_key()
        for tenant in tenants:
            with_key().send("patch", f"{EXTERNAL}/tenants/{tenant.pk}", {"name": "New"})
        client_of(key.token).delete(f"{EXTERNAL}/tenants/{tenants[0].pk}")

        def found(**query: str) -> list[str]:
            return [event["action"] for event in data_of(with_key().get(AUDIT_LOG, query))]

        assert found() == ["tenant.deleted", "tenant.updated", "tenant.updated", "api_key.created"]
        assert found(actor=f"key:{key.key.pk}") == ["tenant.deleted"]
        assert found(action="tenant.updated") == ["tenant.updated"] * 2
        assert found(object=tenants[0].pk) == ["tenant.deleted", "tenant.updated"]
        assert found(objectType="apikey") == ["api_key.created"]
        assert found(object=tenants[1].pk, action="tenant.deleted") == []
        now = datetime.now(UTC)
        before, after = (now - timedelta(minutes=5)).isoformat(), (now + timedelta(minutes=5)).isoformat()
        assert len(found(**{"from": before, "to": after})) == 4
        assert found(**{"from": after}) == []
        assert found(to=before) == []

    def test_times_are_held_to_the_millisecond_of_the_id(self) -> None:
        event = _record("some.thing")
        at = event.at.replace(microsecond=event.at.microsecond // 1_000 * 1_000)
        later = at + timedelta(milliseconds=2)
        for name, moment, count in (("from", at, 1), ("from", later, 0), ("to", later, 1), ("to", at, 0)):
            assert len(data_of(with_key().get(AUDIT_LOG, {name: moment.isoformat()}))) == count

    @pytest.mark.parametrize(
        "moment",
        [
            "yesterday", "2026-01-15T10:30:00", "2026-99-01T00:00:00Z", "", "0000-00-00", "1", "1893456000",
            "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00",
        ],
    )  # fmt: skip
    def test_a_time_that_is_none_is_named(self, moment: str) -> None:
        for name in ("from", "to"):
            assert named_by(with_key().get(AUDIT_LOG, {name: moment})) == [name]
        for extreme in ("1970-01-01T00:00:00Z", "9998-12-31T00:00:00Z"):
            assert with_key().get(AUDIT_LOG, {"from": extreme}).status_code == 200

    def test_a_tenant_reads_its_own_and_a_test_key_nothing(self) -> None:
        home, elsewhere = make_tenant("home"), make_tenant("elsewhere")
        mine = make_key(tenant=home, scopes=["audit:read"])
        make_key(tenant=elsewhere)
        events = data_of(client_of(mine.token).get(AUDIT_LOG))
        assert [event["objectId"] for event in events] == [mine.key.pk]
        assert data_of(client_of(mine.token).get(AUDIT_LOG, {"object": elsewhere.pk})) == []
        test_key = make_key(mode="test", scopes=["audit:read"])
        assert failure_of(client_of(test_key.token).get(AUDIT_LOG)) == (403, "FORBIDDEN")

    def test_a_long_log_is_estimated_and_its_pages_are_exact(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(paging, "_COUNTED_AT_MOST", 3)
        AuditEvent.objects.bulk_create(AuditEvent(actor="system", action="some.thing") for _ in range(7))
        pages = [checked(with_key().get(f"{AUDIT_LOG}?perPage=2&page={page}"))["pagination"] for page in (1, 2, 3, 4)]
        assert [page["hasNext"] for page in pages] == [True, True, True, False]
        assert pages[0]["total"] >= 4  # counted so far, or estimated
        assert pages[3]["total"] == 7  # the last page knows

    def test_queries(self, django_assert_num_queries: Any) -> None:
        for _ in range(3):
            _record("some.thing")
        token = make_key(scopes=["audit:read"]).token
        with django_assert_num_queries(2):
            client_of(token).get(AUDIT_LOG)
        with django_assert_num_queries(3):
            client_of(token).get(f"{AUDIT_LOG}?perPage=2")


def _record(action: str) -> AuditEvent:
    with transaction.atomic():
        return audit.record_about(action, "thing")
