"""Credentials that are read in clear, and what a client of the gateway is told: who may, what leaves, what is noted."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from connections import services
from connections.models import ConnectionStatus, ExternalApiConnection, ExternalApiCredential
from external_apis import audit
from external_apis.models import AuditEvent
from tests.envelope import EXTERNAL, client_of, data_of, failure_of, named_by
from tests.factories import make_connection, make_key, make_partner, make_provider, make_tenant
from tests.grants import make_granted, secrets_of
from tests.rest import RestClient, with_key
from tests.token_server import TokenServer, http, token_server

pytestmark = pytest.mark.django_db
renewing = pytest.mark.django_db(transaction=True)


@pytest.fixture
def server(settings: Any, tmp_path: Any) -> Iterator[TokenServer]:
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    settings.SPOOL_DIR = str(tmp_path / "spool")
    with token_server() as started:
        yield started


def reader(**fields: Any) -> RestClient:
    return client_of(make_key(**{"scopes": ["credentials:read"], **fields}).token)


def url_of(reference: str, page: str = "credentials") -> str:
    return f"{EXTERNAL}/connections/{reference}/{page}"


def left(row: ExternalApiConnection, seconds: float) -> None:
    now = timezone.now()
    ExternalApiCredential.objects.filter(pk=row.pk).update(
        expires_at=now + timedelta(seconds=seconds), updated_at=now - timedelta(days=1)
    )


def test_by_id_and_by_reference() -> None:
    row = make_connection(make_provider(slug="stripe"), slug="default", credentials={"access_token": "sk-of-the-tests"})
    client = reader()
    answers = [client.get(url_of(reference)) for reference in (row.pk, "stripe/default", "stripe")]
    assert [answer["Cache-Control"] for answer in answers] == ["no-store"] * 3
    shown = [data_of(answer) for answer in answers]
    assert shown[0] == shown[1] == shown[2]
    assert shown[0] == {
        "id": row.pk,
        "name": "stripe/default",
        "authType": "bearer",
        "credentials": {"access_token": "sk-of-the-tests"},
        "tokenType": "",
        "expiresAt": None,
        "scopes": [],
    }


def test_each_reading_has_its_event_and_without_it_nothing_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = make_tenant()
    key = make_key(scopes=["credentials:read"], tenant=tenant)
    row = make_connection(tenant=tenant, credentials={"access_token": "sk-of-the-tests"})
    answer = client_of(key.token).get(url_of(row.pk))
    event = AuditEvent.objects.get(action="credentials.read")
    assert (event.actor, event.api_key_id, event.object_id) == (f"key:{key.key.pk}", key.key.pk, row.pk)
    assert (event.tenant_id, event.changes) == (tenant.pk, {"read": ["access_token"]})
    assert event.request_id == answer["X-Request-Id"]

    def fail(*_: Any) -> None:
        raise RuntimeError("the log is full")

    monkeypatch.setattr(audit, "build", fail)
    answer = client_of(key.token).get(url_of(row.pk))
    assert answer.status_code == 500
    assert "sk-of-the-tests" not in answer.content.decode()


def test_its_scope_and_no_other_opens_it() -> None:
    row = make_connection()
    others = ["connections:read", "connections:write", "proxy", "services:read"]
    assert failure_of(reader(scopes=others).get(url_of(row.pk))) == (403, "FORBIDDEN")
    assert failure_of(RestClient().get(url_of(row.pk))) == (401, "MISSING_AUTH_HEADER")
    assert not AuditEvent.objects.filter(action="credentials.read").exists()


def test_nobody_reads_what_is_not_theirs() -> None:
    mine, theirs = make_tenant(), make_tenant()
    api = make_provider(slug="shared")
    foreign = make_connection(api, tenant=theirs, slug="foreign")
    everybodys = make_connection(api, slug="everybodys")
    own = make_connection(api, tenant=mine, slug="own")
    client = reader(tenant=mine)
    for reference in (foreign.pk, everybodys.pk, "shared/foreign", "shared/everybodys"):
        assert failure_of(client.get(url_of(reference))) == (404, "NOT_FOUND"), reference
    # A slug alone means the one of them that is the tenant's, and no refusal names the others.
    assert data_of(client.get(url_of("shared")))["id"] == own.pk
    of_partner = make_connection(api, slug="of-partner", partner_id=make_partner().pk)
    operator = reader()
    assert data_of(operator.get(url_of("shared")))["id"] == everybodys.pk
    assert failure_of(operator.get(url_of("shared/of-partner"))) == (404, "NOT_FOUND")
    assert data_of(operator.get(url_of(of_partner.pk)))["id"] == of_partner.pk
    assert data_of(operator.get(url_of(foreign.pk)))["id"] == foreign.pk


def test_a_test_key_reads_the_sandbox_alone() -> None:
    live = make_connection(make_provider(slug="twins"), slug="default")
    test = make_connection(make_provider(slug="twins", is_sandbox=True), slug="default")
    for mode, seen, unseen in (("test", test, live), ("live", live, test)):
        client = reader(mode=mode)
        assert data_of(client.get(url_of("twins/default")))["id"] == seen.pk
        assert data_of(client.get(url_of(seen.pk)))["id"] == seen.pk
        assert failure_of(client.get(url_of(unseen.pk))) == (404, "NOT_FOUND")


def test_environments_are_told_apart() -> None:
    rows = {
        name: make_connection(make_provider(slug="many", environment=name), slug="default")
        for name in ("development", "staging")
    }
    client = reader()
    assert failure_of(client.get(url_of("many"))) == (409, "CONFLICT")
    for name, row in rows.items():
        assert data_of(client.get(url_of("many"), {"environment": name}))["id"] == row.pk


def test_what_cannot_be_used_is_not_read() -> None:
    revoked, expired, inactive = make_connection(), make_connection(), make_connection()
    ExternalApiConnection.objects.filter(pk=revoked.pk).update(status=ConnectionStatus.REVOKED)
    ExternalApiConnection.objects.filter(pk=expired.pk).update(status=ConnectionStatus.EXPIRED)
    type(inactive.external_api).objects.filter(pk=inactive.external_api_id).update(status="inactive")
    client = reader()
    assert failure_of(client.get(url_of(revoked.pk))) == (409, "CONNECTION_REVOKED")
    assert failure_of(client.get(url_of(expired.pk))) == (409, "CONNECTION_EXPIRED")
    assert failure_of(client.get(url_of(inactive.pk))) == (409, "CONNECTION_INACTIVE")
    services.delete_connection(expired)
    assert failure_of(client.get(url_of(expired.pk))) == (404, "NOT_FOUND")
    assert not AuditEvent.objects.filter(action="credentials.read").exists()


@renewing
def test_no_secret_that_connections_share_leaves_with_one_of_them(server: TokenServer) -> None:
    row = make_granted(server, expires_in=7200)
    shown = data_of(reader().get(url_of(row.pk)))
    assert shown["credentials"] == {"access_token": "at-old"}
    assert shown["authType"] == "oauth2"
    assert "client-secret-of-the-tests" not in json.dumps(shown)
    keyed = make_provider(api_config={"api_key": {"key": "key-of-the-provider"}})
    bare = make_connection(keyed, credentials={})
    answer = reader().get(url_of(bare.pk))
    assert failure_of(answer) == (409, "MISSING_CREDENTIAL")
    assert "key-of-the-provider" not in answer.content.decode()


def test_further_data_comes_as_the_object_that_it_is() -> None:
    row = make_connection(credentials={"access_token": "t-of-the-tests", "additional_data": {"team": {"id": 7}}})
    assert data_of(reader().get(url_of(row.pk)))["credentials"]["additional_data"] == {"team": {"id": 7}}


@pytest.mark.parametrize(("seconds", "min_valid", "is_renewed"), [(400, 60, False), (400, 600, True), (200, 60, True)])
@renewing
def test_a_token_that_ends_too_soon_is_renewed_first(
    server: TokenServer, seconds: int, min_valid: int, is_renewed: bool
) -> None:
    row = make_granted(server, expires_in=7200)
    left(row, seconds)
    shown = data_of(reader().get(url_of(row.pk), {"min_valid": min_valid}))
    assert (shown["credentials"]["access_token"] != "at-old") is is_renewed
    assert shown["credentials"]["access_token"] == secrets_of(row)["access_token"]
    assert len(server.requests) == int(is_renewed)


@renewing
def test_tokens_that_never_live_so_long_are_not_renewed_at_each_reading(server: TokenServer) -> None:
    row = make_granted(server, expires_in=7200)
    left(row, 10)
    client = reader()
    read = {data_of(client.get(url_of(row.pk), {"min_valid": 86_400}))["credentials"]["access_token"] for _ in range(4)}
    assert len(read) == 1
    assert len(server.requests) == 1


@renewing
def test_while_the_renewal_fails_a_token_that_lives_is_given_and_an_ended_one_is_not(server: TokenServer) -> None:
    row = make_granted(server, expires_in=7200)
    left(row, 100)
    server.answers = [http(500, {})] * 9
    assert data_of(reader().get(url_of(row.pk)))["credentials"]["access_token"] == "at-old"
    left(row, -1)
    assert failure_of(reader().get(url_of(row.pk)))[0] in (502, 503)


@renewing
def test_a_token_whose_grant_was_refused_just_now_is_not_handed_over(server: TokenServer) -> None:
    row = make_granted(server, expires_in=7200)
    left(row, 100)
    server.answers = [http(400, {"error": "invalid_grant"})]
    for _ in range(2):
        answer = reader().get(url_of(row.pk))
        assert failure_of(answer) == (409, "CONNECTION_EXPIRED")
        assert answer.json()["error"]["details"]["connectionId"] == row.pk
        assert "at-old" not in answer.content.decode()
    assert not AuditEvent.objects.filter(action="credentials.read").exists()


@pytest.mark.parametrize("query", ["min_valid=-1", "min_valid=86401", "min_valid=x", "minValid=60", "environment=x"])
def test_a_query_that_is_none(query: str) -> None:
    answer = reader().get(f"{url_of(make_connection().pk)}?{query}")
    assert failure_of(answer) == (400, "VALIDATION_ERROR")
    assert named_by(answer) == [query.partition("=")[0]]


@pytest.mark.parametrize("reference", ["conn_", "conn_x%00", "a/b/c", "a/", "%2e%2e/x", "x" * 3000, "%ed%a0%80", "'--"])
def test_references_to_nothing(reference: str) -> None:
    for page in ("credentials", "client"):
        assert failure_of(with_key().get(url_of(reference, page)))[0] in (400, 404), page


def test_readings_are_limited() -> None:
    row = make_connection()
    client = reader(rate_limit=1)
    assert data_of(client.get(url_of(row.pk)))
    assert failure_of(client.get(url_of(row.pk))) == (429, "RATE_LIMIT_EXCEEDED")
    assert AuditEvent.objects.filter(action="credentials.read").count() == 1


def test_two_queries_by_id_and_three_by_reference() -> None:
    row = make_connection(make_provider(slug="counted"), slug="default")
    client = reader()
    for reference, most in ((row.pk, 2), ("counted/default", 3)):
        client.get(url_of(reference))
        with CaptureQueriesContext(connection) as captured:
            data_of(client.get(url_of(reference)))
        statements = [query["sql"] for query in captured if "SAVEPOINT" not in query["sql"]]
        assert len(statements) == most, statements


def test_what_a_client_is_told() -> None:
    config = {
        "base_url": "https://{shop}.example.com/admin",
        "url_variables": {"shop": {}, "area": {}, "account": {}},
        "request_encoding": "form",
        "graphql_path": "/gql",
        "pagination": {"style": "cursor", "cursor_path": "next"},
    }
    api, data = make_provider(slug="shop", api_config=config), {"shop": "acme", "area": "eu"}
    row = make_connection(api, slug="default", provider_data=data)
    client = reader(scopes=["proxy"])
    told = data_of(client.get(url_of("shop/default", "client")))
    pagination = told.pop("pagination")
    assert (pagination["style"], pagination["cursor_path"], pagination["limit"]) == ("cursor", "next", None)
    assert told == {
        "id": row.pk,
        "name": "shop/default",
        "baseUrl": "https://acme.example.com/admin",
        "urlVariables": {"shop": "acme", "area": "eu", "account": None},
        "requestEncoding": "form",
        "graphqlPath": "/gql",
    }
    assert failure_of(reader().get(url_of(row.pk, "client"))) == (403, "FORBIDDEN")


@pytest.mark.django_db(transaction=True)
def test_what_is_kept_costs_the_event_alone_and_is_a_second_old_at_most() -> None:
    row = make_connection()
    client = reader()
    client.get(url_of(row.pk))
    with CaptureQueriesContext(connection) as captured:
        data_of(client.get(url_of(row.pk)))
    assert [query["sql"].split()[0] for query in captured] == ["INSERT"]
    # As SQL does it, without a word to anybody.
    ExternalApiConnection.objects.filter(pk=row.pk).update(status=ConnectionStatus.REVOKED)
    deadline = time.monotonic() + 1.5
    while (answer := client.get(url_of(row.pk))).status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert failure_of(answer) == (409, "CONNECTION_REVOKED")
