"""Providers, connections, tenants and partners under ``/api/external``: seed 000's rows in seed 001's envelope."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from connections import lookup
from connections.models import ExternalApiConnection
from connections.sandbox import credentials as sandbox_credentials
from external_apis import valkey
from external_apis.models import AuditEvent, ExternalApi, Partner, Tenant
from external_apis.tenancy import Scope
from tests.envelope import EXTERNAL, client_of, data_of, failure_of, named_by
from tests.factories import (
    make_connection,
    make_key,
    make_many_connections,
    make_partner,
    make_provider,
    make_tenant,
    provider_body,
)
from tests.rest import with_key
from tests.sandbox import Sandbox

pytestmark = pytest.mark.django_db
PROVIDERS, CONNECTIONS = f"{EXTERNAL}/providers", f"{EXTERNAL}/connections"
TENANTS, PARTNERS = f"{EXTERNAL}/tenants", f"{EXTERNAL}/partners"


@pytest.fixture(autouse=True)
def _forget_limits() -> None:
    for key in valkey.client().scan_iter(f"{valkey.PREFIX}limit:*", count=1_000):
        valkey.client().delete(key)


def _provider(**fields: Any) -> dict[str, Any]:
    body = provider_body(**fields)
    return {"apiConfig": body.pop("api_config"), **body}


class TestProviders:
    def test_its_life(self) -> None:
        client = with_key()
        made = data_of(client.send("post", PROVIDERS, _provider(slug="stripe")), 201)
        assert (made["slug"], made["authType"], made["isSandbox"]) == ("stripe", "bearer", False)
        assert made["apiConfig"]["base_url"] == "https://api.example.com/v1"
        assert made["createdBy"] == "key:ADMIN_API_KEY"
        one = f"{PROVIDERS}/{made['id']}"
        assert data_of(client.get(f"{PROVIDERS}/stripe")) == data_of(client.get(one))
        changed = data_of(client.send("patch", one, {"name": "New", "apiConfig": {"timeout_ms": 5}}))
        assert (changed["name"], changed["apiConfig"]["timeout_ms"]) == ("New", 5)
        (listed,) = data_of(client.get(PROVIDERS))
        assert listed == {name: value for name, value in changed.items() if name in listed}
        assert "apiConfig" not in listed
        assert data_of(client.delete(one)) == {"id": made["id"], "deleted": True}
        assert failure_of(client.get(one)) == (404, "NOT_FOUND")
        assert ExternalApi.objects.get(pk=made["id"]).is_deleted

    def test_secrets_are_shown_as_facts(self) -> None:
        body = _provider(api_config={"api_key": {"key": "swordfish of the provider"}})
        response = with_key().send("post", PROVIDERS, body)
        facts = data_of(response, 201)["apiConfig"]["api_key"]["key_encrypted"]
        assert set(facts) == {"keyVersion", "fingerprint", "hint"}
        assert b"swordfish" not in response.content
        (event,) = AuditEvent.objects.filter(action="provider.created")
        assert event.changes["secret_fingerprints.api_key.key"] == [None, facts["fingerprint"]]
        assert "swordfish" not in str(event.changes)

    def test_filters(self) -> None:
        make_provider(slug="a", status="inactive")
        make_provider(slug="b", is_sandbox=True)
        for query, slugs in (
            ("", ["a", "b"]),
            ("?status=inactive", ["a"]),
            ("?isSandbox=true", ["b"]),
            ("?search=B", ["b"]),
            ("?slug=a&environment=production", ["a"]),
        ):
            assert [item["slug"] for item in data_of(with_key().get(f"{PROVIDERS}{query}"))] == slugs
        assert named_by(with_key().get(f"{PROVIDERS}?status=broken")) == ["status"]

    def test_a_tenant_changes_no_global_provider(self) -> None:
        api = make_provider()
        client = client_of(make_key(tenant=make_tenant()).token)
        assert data_of(client.get(f"{PROVIDERS}/{api.pk}"))["id"] == api.pk
        for method, body in (("patch", {"name": "New"}), ("delete", None)):
            assert failure_of(client.send(method, f"{PROVIDERS}/{api.pk}", body)) == (403, "FORBIDDEN")


class TestConnections:
    def test_its_life(self) -> None:
        client = with_key()
        api = make_provider(slug="stripe")
        body = {"externalApiId": "stripe", "connectionName": "Mine", "credentials": {"access_token": "swordfish-1"}}
        response = client.send("post", CONNECTIONS, {**body, "providerData": {"account_id": "acct_1"}})
        made = data_of(response, 201)
        assert (made["externalApiId"], made["connectionName"], made["slug"]) == (api.pk, "Mine", "default")
        assert made["providerData"] == {"account_id": "acct_1"}
        assert "access_token_encrypted" in made["credentials"]
        assert b"swordfish" not in response.content
        one = f"{CONNECTIONS}/{made['id']}"
        patch = {"note": "Ask Bob", "credentials": {"access_token": "swordfish-2"}}
        changed = data_of(client.send("patch", one, patch))
        assert changed["note"] == "Ask Bob"
        (event,) = AuditEvent.objects.filter(action="connection.updated")
        assert event.changes["note"] == [None, "Ask Bob"]
        old, new = event.changes["credentials.secret_fingerprints.access_token"]
        assert (old, new) == tuple(
            row["credentials"]["access_token_encrypted"]["fingerprint"] for row in (made, changed)
        )
        assert old != new
        assert "swordfish" not in str(event.changes)
        (listed,) = data_of(client.get(CONNECTIONS))
        assert (listed["id"], "credentials" in listed) == (made["id"], False)
        assert data_of(client.delete(one)) == {"id": made["id"], "deleted": True}
        assert failure_of(client.get(one)) == (404, "NOT_FOUND")

    def test_what_is_not_oauth_is_neither_renewed_nor_revoked(self) -> None:
        row = make_connection()
        for action in ("refresh", "revoke"):
            response = with_key().send("post", f"{CONNECTIONS}/{row.pk}/{action}")
            assert failure_of(response) == (400, "VALIDATION_ERROR")
            assert failure_of(with_key().send("post", f"{CONNECTIONS}/conn_missing/{action}")) == (404, "NOT_FOUND")

    def test_filters_name_what_they_know(self) -> None:
        tenant = make_tenant()
        row = make_connection(tenant=tenant)
        other = make_connection(connection_name="Other")
        for query, ids in (
            (f"salesChannelId={tenant.pk}", [row.pk]),
            (f"externalApiId={other.external_api_id}", [other.pk]),
            ("status=active", [other.pk, row.pk]),
            ("status=revoked", []),
            ("search=oth", [other.pk]),
        ):
            assert [item["id"] for item in data_of(with_key().get(f"{CONNECTIONS}?{query}"))] == ids
        assert named_by(with_key().get(f"{CONNECTIONS}?external_api__slug=x")) == ["external_api__slug"]

    def test_those_of_deleted_providers_are_gone(self) -> None:
        row = make_connection()
        with_key().delete(f"{PROVIDERS}/{row.external_api_id}")
        assert data_of(with_key().get(CONNECTIONS)) == []
        assert failure_of(with_key().get(f"{CONNECTIONS}/{row.pk}")) == (404, "NOT_FOUND")

    def test_a_key_of_a_mode_sees_and_makes_its_own_kind(self) -> None:
        live, sandboxed = make_connection(), make_connection(make_provider(is_sandbox=True))
        for mode, own, other in (("live", live, sandboxed), ("test", sandboxed, live)):
            client = client_of(make_key(mode=mode).token)
            assert [item["id"] for item in data_of(client.get(CONNECTIONS))] == [own.pk]
            assert data_of(client.get(f"{CONNECTIONS}/{own.pk}"))["id"] == own.pk
            assert failure_of(client.get(f"{CONNECTIONS}/{other.pk}")) == (404, "NOT_FOUND")
            for action in ("refresh", "revoke", "test"):
                assert failure_of(client.send("post", f"{CONNECTIONS}/{other.pk}/{action}")) == (404, "NOT_FOUND")
            body = {"externalApiId": other.external_api_id, "connectionName": "x"}
            assert failure_of(client.send("post", CONNECTIONS, body)) == (404, "NOT_FOUND")
            made = data_of(client.send("post", PROVIDERS, _provider(slug=f"of-{mode}")), 201)
            assert made["isSandbox"] is (mode == "test")

    def test_queries_do_not_follow_the_rows(self, django_assert_num_queries: Any) -> None:
        token = make_key(scopes=["connections:read"]).token
        make_many_connections(make_provider(), 30)
        client = client_of(token)
        with django_assert_num_queries(3):  # the key, the page, the total
            assert len(data_of(client.get(CONNECTIONS))) == 20
        make_many_connections(make_provider(), 30)
        with django_assert_num_queries(2):
            assert len(data_of(client.get(f"{CONNECTIONS}?perPage=20"))) == 20

    @pytest.mark.parametrize(
        ("scope", "index"),
        [(Scope(), "conn_by_id"), (Scope(is_sandbox=False), "conn_by_id"), (Scope("ten_1"), "conn_of_tenant_by_id")],
    )
    def test_a_page_far_down_is_found_in_an_index_alone(self, scope: Scope, index: str) -> None:
        with connection.cursor() as cursor:
            # Of a table as small as this one the planner would read the whole.
            for way in ("seqscan", "bitmapscan", "sort"):
                cursor.execute(f"SET LOCAL enable_{way} = off")
        plan = lookup.in_scope(scope).values("pk")[99_980:100_000].explain()
        assert f"Index Only Scan using {index}" in plan
        assert "Sort" not in plan


class TestProbe:
    @pytest.mark.django_db(transaction=True)
    def test_it_really_calls(self, sandbox: Sandbox, settings: Any) -> None:
        settings.EGRESS_ALLOW = [sandbox.url.removeprefix("http://")]
        config = {"base_url": f"{sandbox.url}/auth/bearer", "test_path": "/me"}
        api = make_provider(environment="development", is_sandbox=True, api_config=config)
        row = make_connection(api, credentials={"access_token": sandbox_credentials.BEARER_TOKEN})
        data = data_of(with_key().send("post", f"{CONNECTIONS}/{row.pk}/test"))
        assert (data["ok"], data["status"], set(data)) == (True, 200, {"ok", "status", "message", "durationMs"})
        assert AuditEvent.objects.get(action="connection.tested").changes == {"ok": True, "status": 200}


class TestTenantsAndPartners:
    def test_a_tenants_life(self) -> None:
        client = with_key()
        made = data_of(client.send("post", TENANTS, {"name": "Acme", "slug": "acme"}), 201)
        one = f"{TENANTS}/{made['id']}"
        assert data_of(client.send("patch", one, {"isActive": False}))["isActive"] is False
        make_provider(tenant=Tenant.objects.get())
        response = client.delete(one)
        assert failure_of(response) == (409, "CONFLICT")
        assert "providers" in response.json()["error"]["message"]
        ExternalApi.objects.all().delete()
        Tenant.objects.get().data_keys.all().delete()
        assert data_of(client.delete(one)) == {"id": made["id"], "deleted": True}
        assert AuditEvent.objects.filter(tenant_id=made["id"], action="tenant.deleted").exists()

    def test_a_tenant_sees_itself_and_changes_nothing(self) -> None:
        home, elsewhere = make_tenant("home"), make_tenant("elsewhere")
        client = client_of(make_key(tenant=home).token)
        assert [item["slug"] for item in data_of(client.get(TENANTS))] == ["home"]
        assert failure_of(client.get(f"{TENANTS}/{elsewhere.pk}")) == (404, "NOT_FOUND")
        for method, body in (("patch", {"name": "x"}), ("delete", None)):
            assert failure_of(client.send(method, f"{TENANTS}/{elsewhere.pk}", body)) == (404, "NOT_FOUND")
            assert failure_of(client.send(method, f"{TENANTS}/{home.pk}", body)) == (403, "FORBIDDEN")
        assert failure_of(client.send("post", TENANTS, {"name": "x", "slug": "x"})) == (403, "FORBIDDEN")
        assert Tenant.objects.count() == 2

    def test_partners_stay_within_their_tenant(self) -> None:
        home, elsewhere = make_tenant("home"), make_tenant("elsewhere")
        foreign, shared = make_partner(elsewhere), make_partner()
        client = client_of(make_key(tenant=home).token)
        made = data_of(client.send("post", PARTNERS, {"name": "Mine", "slug": "mine"}), 201)
        assert made["tenantId"] == home.pk
        assert [item["id"] for item in data_of(client.get(PARTNERS))] == [made["id"]]
        body = {"name": "Theirs", "slug": "theirs", "tenantId": elsewhere.pk}
        assert failure_of(client.send("post", PARTNERS, body)) == (404, "NOT_FOUND")
        for row in (foreign, shared):
            for method, sent in (("get", None), ("patch", {"name": "x"}), ("delete", None)):
                assert failure_of(client.send(method, f"{PARTNERS}/{row.pk}", sent)) == (404, "NOT_FOUND")
        assert data_of(client.send("patch", f"{PARTNERS}/{made['id']}", {"name": "New"}))["name"] == "New"
        assert failure_of(client.send("post", PARTNERS, {"name": "x", "slug": "mine"})) == (409, "CONFLICT")
        assert data_of(client.delete(f"{PARTNERS}/{made['id']}"))["deleted"] is True
        assert Partner.objects.count() == 2


def test_events_name_the_stored_key() -> None:
    key = make_key()
    client_of(key.token).send("post", TENANTS, {"name": "Acme", "slug": "acme"})
    event = AuditEvent.objects.get(action="tenant.created")
    assert (event.actor, event.api_key_id) == (f"key:{key.key.pk}", key.key.pk)
    assert ExternalApiConnection.objects.count() == 0
