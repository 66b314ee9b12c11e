"""The status of a connect link, watched from a front end with a publishable key."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from connections.api import connect_links
from connections.connect_links.invitations import create_link, link_path
from connections.models import ConnectLink
from external_apis import keys, valkey
from external_apis.json_output import timestamp
from external_apis.models import ExternalApi, Tenant
from tests.exsvc import bearer
from tests.factories import make_connection, make_key, make_provider, make_tenant
from tests.rest import PROVIDERS, RestClient, connections_of, error_of, with_key

pytestmark = pytest.mark.django_db

APP = "https://app.example"
CONFIG = {"base_url": "https://api.example.com", "auth_type": "api_key", "api_key": {"header_name": "X-Key"}}


@pytest.fixture(autouse=True)
def _allowed(settings: Any) -> Iterator[None]:
    settings.CONNECT_ALLOWED_ORIGINS = (APP,)
    yield
    for key in valkey.client().scan_iter("*connect-status*"):
        valkey.client().delete(key)


@pytest.fixture
def tenant() -> Tenant:
    return make_tenant()


@pytest.fixture
def api() -> ExternalApi:
    return make_provider(api_config=CONFIG)


@pytest.fixture
def link(api: ExternalApi, tenant: Tenant) -> ConnectLink:
    return create_link(api, {"sales_channel_id": tenant.pk})


def front_end(tenant: Tenant, **fields: Any) -> RestClient:
    return bearer(make_key(type="publishable", scopes=[], tenant=tenant, **fields).token)


def path_of(link: ConnectLink) -> str:
    return f"{PROVIDERS}/{link.external_api_id}/connect-links/{link.pk}"


def test_a_publishable_key_sees_how_far_its_tenants_link_has_come(link: ConnectLink, tenant: Tenant) -> None:
    client = front_end(tenant)
    shown = client.get(path_of(link))
    assert shown.status_code == 200
    expires_at = timestamp(link.expires_at)
    assert shown.json() == {"id": link.pk, "status": "pending", "expires_at": expires_at, "connection_id": None}
    assert shown["Cache-Control"] == "no-store"
    assert client.head(path_of(link)).status_code == 200
    made = make_connection(link.external_api, tenant=tenant, credentials={"api_key": "k" * 20})
    ConnectLink.objects.update(used_at=timezone.now(), made_connection=made, error="said by the provider")
    after = client.get(path_of(link)).json()
    assert after == {"id": link.pk, "status": "connected", "expires_at": expires_at, "connection_id": made.pk}
    assert set(with_key().get(path_of(link)).json()) > set(after)
    ConnectLink.objects.update(used_at=None, made_connection=None, expires_at=timezone.now() - timedelta(seconds=1))
    assert client.get(path_of(link)).json()["status"] == "expired"


def test_links_of_others_are_none(api: ExternalApi, link: ConnectLink, tenant: Tenant) -> None:
    of_all = create_link(api, {})
    sandbox = make_provider(api_config=CONFIG, is_sandbox=True)
    of_the_sandbox = create_link(sandbox, {"sales_channel_id": tenant.pk})
    live, test, other = front_end(tenant), front_end(tenant, mode="test"), front_end(make_tenant())
    for client, which in ((other, link), (live, of_all), (live, of_the_sandbox), (test, link)):
        assert error_of(client.get(path_of(which))) == (404, "NOT_FOUND")
    assert test.get(path_of(of_the_sandbox)).status_code == 200


def test_a_publishable_key_that_has_ended_opens_nothing(link: ConnectLink, tenant: Tenant) -> None:
    made = make_key(type="publishable", scopes=[], tenant=tenant)
    keys.revoke(made.key)
    assert error_of(bearer(made.token).get(path_of(link))) == (401, "INVALID_API_KEY")
    assert error_of(bearer(f"{made.token[:-1]}!").get(path_of(link))) == (401, "INVALID_API_KEY")
    elsewhere = front_end(tenant, allowed_networks=["192.0.2.0/24"])
    assert error_of(elsewhere.get(path_of(link))) == (403, "FORBIDDEN")


def test_every_other_route_stays_closed(link: ConnectLink, tenant: Tenant) -> None:
    client, api = front_end(tenant), link.external_api
    for method, path in (
        ("get", PROVIDERS),
        ("get", f"{PROVIDERS}/{api.pk}"),
        ("post", f"{PROVIDERS}/{api.pk}/connect-links"),
        ("get", connections_of(api)),
        ("get", f"{PROVIDERS}/{api.pk}/oauth/authorize"),
        ("post", path_of(link)),
        ("delete", path_of(link)),
        ("options", path_of(link)),
    ):
        assert error_of(client.send(method, path, {} if method == "post" else None)) == (403, "FORBIDDEN"), path


def test_secret_keys_need_their_scope_as_ever(link: ConnectLink, tenant: Tenant) -> None:
    assert bearer(make_key(tenant=tenant, scopes=["connections:read"]).token).get(path_of(link)).status_code == 200
    reader = bearer(make_key(tenant=tenant, scopes=["providers:read"]).token)
    assert error_of(reader.get(path_of(link))) == (403, "FORBIDDEN")
    assert error_of(RestClient().get(path_of(link)))[0] == 401


def test_the_hosted_page_needs_no_key_and_minds_none(link: ConnectLink, tenant: Tenant) -> None:
    for client in (Client(), front_end(tenant)):
        assert client.get(link_path(link)).status_code == 200


# --- from a browser -----------------------------------------------------------------------------------------------


def preflight(path: str, origin: str) -> Any:
    asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    return RestClient().options(path, headers={"Origin": origin, **asked})


def test_a_page_of_an_allowed_origin_may_ask(link: ConnectLink, tenant: Tenant) -> None:
    allowed = preflight(path_of(link), APP)
    assert (allowed.status_code, allowed.content) == (204, b"")
    assert allowed["Access-Control-Allow-Origin"] == APP
    assert allowed["Access-Control-Allow-Methods"] == "GET"
    assert allowed["Access-Control-Allow-Headers"] == "Authorization"
    assert "Origin" in allowed["Vary"]
    for client, status in ((front_end(tenant), 200), (front_end(make_tenant()), 404), (bearer("pk_live_x"), 401)):
        answer = client.get(path_of(link), headers={"Origin": APP})
        assert (answer.status_code, answer["Access-Control-Allow-Origin"]) == (status, APP)
        assert "Origin" in answer["Vary"]
        # Neither does the session travel along, nor may an answer to it be read.
        assert not answer.has_header("Access-Control-Allow-Credentials")


@pytest.mark.parametrize("origin", ["https://evil.example", f"{APP}.evil.example", "http://app.example", "null", "*"])
def test_no_other_page_may(link: ConnectLink, tenant: Tenant, origin: str) -> None:
    refused = preflight(path_of(link), origin)
    answer = front_end(tenant).get(path_of(link), headers={"Origin": origin})
    for response in (refused, answer):
        assert not [name for name in response.headers if name.startswith("Access-Control-")]
        assert "Origin" in response["Vary"]


def test_no_other_route_is_for_other_pages(link: ConnectLink) -> None:
    api = link.external_api
    for path in (PROVIDERS, f"{PROVIDERS}/{api.pk}/connect-links", connections_of(api), link_path(link), "/healthz"):
        for response in (preflight(path, APP), with_key().get(path, headers={"Origin": APP})):
            assert not response.has_header("Access-Control-Allow-Origin"), path


def test_each_address_and_a_key_with_a_limit_have_so_many_requests(
    link: ConnectLink, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect_links, "REQUESTS_A_MINUTE", 2)
    client = front_end(tenant)
    answers = [client.get(path_of(link), REMOTE_ADDR="192.0.2.7", headers={"Origin": APP}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[-1]["Retry-After"]
    assert answers[-1]["Access-Control-Allow-Origin"] == APP
    assert client.get(path_of(link), REMOTE_ADDR="192.0.2.8").status_code == 200
    limited = front_end(tenant, rate_limit=1)
    statuses = [limited.get(path_of(link), REMOTE_ADDR=f"192.0.2.{9 + n}").status_code for n in range(2)]
    assert statuses == [200, 429]
