"""The grant on the admin's pages: connect, callback, state, scopes, events, refresh, revoke."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.utils import quote
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from connections.models import ExternalApiConnection, Grant, GrantEvent, GrantState
from connections.oauth import events
from connections.sandbox import credentials
from external_apis.models import ExternalApi
from tests.connections.test_connect_links_oauth import make_oauth2
from tests.factories import MANAGER, make_connection, make_provider, make_tenant, make_user
from tests.sandbox import Sandbox

pytestmark = pytest.mark.django_db

_PROVIDER = "admin:external_apis_externalapi"
_CONNECTION = "admin:connections_externalapiconnection"
_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def _allowed(settings: Any, sandbox: Sandbox) -> None:
    settings.EGRESS_ALLOW = [f"127.0.0.1:{sandbox.port}"]


@pytest.fixture
def operator() -> Client:
    return signed_in(make_user(is_superuser=True))


def signed_in(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def url_of(row: ExternalApi | ExternalApiConnection, page: str = "change") -> str:
    names = _PROVIDER if isinstance(row, ExternalApi) else _CONNECTION
    return reverse(f"{names}_{page}", args=[quote(row.pk)])


def page_of(client: Client, row: Any, page: str = "change") -> str:
    response = client.get(url_of(row, page))
    assert response.status_code == 200
    return str(response.content.decode())


def make_machine(sandbox: Sandbox) -> ExternalApiConnection:
    """A connection whose token the sandbox issues to whoever knows the client's secret."""
    client_id, secret = f"admin-machine-{next(_numbers)}", "the secret of a machine"
    sandbox.register(client_id, client_secret=secret)
    block = {
        "client_id": client_id,
        "client_secret": secret,
        "token_url": f"{sandbox.url}/oauth/token",
        "revocation_url": f"{sandbox.url}/oauth/revoke",
        "scopes": ["read"],
    }
    config = {
        "base_url": f"{sandbox.url}/auth/client-credentials",
        "auth_type": "client_credentials",
        "client_credentials": block,
    }
    return make_connection(make_provider(environment="development", api_config=config), credentials={})


def test_the_callbacks_address_stands_on_the_providers_page(operator: Client, settings: Any, sandbox: Sandbox) -> None:
    api = make_oauth2(sandbox)
    page = page_of(operator, api)
    for host in ("127.0.0.1", "localhost"):
        assert f">http://{host}:8000/admin/external-apis/{api.pk}/oauth/callback</code>" in page
    settings.PUBLIC_BASE_URL = "https://apis.example.com"
    page = page_of(operator, api)
    assert f">https://apis.example.com/admin/external-apis/{api.pk}/oauth/callback</code>" in page
    assert "localhost" not in page
    assert "Callback" not in page_of(operator, make_provider())


def test_connect_is_for_those_who_may_add_a_connection(operator: Client, sandbox: Sandbox) -> None:
    api = make_oauth2(sandbox)
    authorize = f"/admin/external-apis/{api.pk}/oauth/authorize"
    assert f'href="{authorize}"' in page_of(operator, api)
    assert authorize not in page_of(operator, make_provider())
    reader = signed_in(make_user(permissions=["external_apis.view_externalapi"]))
    assert authorize not in page_of(reader, api)
    answer = operator.get(authorize)
    assert answer.status_code == 302
    assert answer["Location"].startswith(f"{sandbox.url}/oauth/authorize?")


def test_parts_of_the_providers_addresses_are_asked_first(operator: Client, sandbox: Sandbox) -> None:
    api = make_oauth2(sandbox, base_url=sandbox.url + "/echo/{shop}", url_variables={"shop": {"pattern": "[a-z]+"}})
    assert url_of(api, "connect") in page_of(operator, api)
    page = page_of(operator, api, "connect")
    assert '<input name="shop"' in page
    assert f'action="/admin/external-apis/{api.pk}/oauth/authorize"' in page
    reader = signed_in(make_user(permissions=["external_apis.view_externalapi"]))
    assert reader.get(url_of(api, "connect")).status_code == 404


def test_a_connections_page_tells_its_grant(operator: Client, sandbox: Sandbox) -> None:
    api = make_oauth2(sandbox)
    expires_at = timezone.now() + timedelta(hours=2)
    facts = {"access_token": "a token of the page", "refresh_token": "its refresh token", "scopes": ["read"]}
    row = make_connection(api, credentials={**facts, "expires_at": expires_at.isoformat()})
    Grant.objects.filter(pk=row.pk).update(failures=2, state=GrantState.IN_DOUBT)
    events.record(row, "refresh_failed", cause="schedule", outcome="failed", message="<script>alert(1)</script>")
    page = page_of(operator, row)
    assert f"{expires_at:%Y-%m-%d %H:%M:%S} UTC" in page
    due_at = Grant.objects.get(pk=row.pk).due_at
    assert due_at is not None
    assert f"{due_at:%Y-%m-%d %H:%M:%S} UTC" in page
    for part in ("in doubt", "2 failed attempts", "granted: read", "missing: write", "needs re-consent", "schedule"):
        assert part in page, part
    assert "<script>alert" not in page
    assert f"/admin/external-apis/{api.pk}/oauth/authorize?connection={row.pk}" in page
    assert "a token of the page" not in page
    assert url_of(row, "refresh") in page
    plain = make_connection()
    other = page_of(operator, plain)
    assert "What happened to the grant" not in other
    assert url_of(plain, "refresh") not in other
    assert url_of(plain, "revoke") not in other


def test_the_newest_fifty_events_and_a_fixed_number_of_queries(operator: Client, sandbox: Sandbox) -> None:
    row = make_machine(sandbox)

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            page_of(operator, row)
        return len(captured)

    queries()
    few = queries()
    for number in range(60):
        events.record(row, "refreshed", cause=f"cause-{number:02d}", outcome="succeeded")
    assert queries() == few <= 16
    events.record(row, "refreshed", cause="the-newest", outcome="succeeded")
    page = page_of(operator, row)
    assert page.count("cause-") == 49
    assert page.index("the-newest") < page.index("cause-")


@pytest.mark.django_db(transaction=True)
def test_refresh_now(operator: Client, sandbox: Sandbox) -> None:
    row = make_machine(sandbox)
    assert "none is planned" in page_of(operator, row)
    assert operator.get(url_of(row, "refresh")).status_code == 405
    page = operator.post(url_of(row, "refresh"), follow=True).content.decode()
    assert "The token is renewed." in page
    row = ExternalApiConnection.objects.get(pk=row.pk)
    assert row.credential.secrets["access_token"].startswith(credentials.ISSUED_PREFIX)
    event = GrantEvent.objects.filter(connection=row).first()
    assert event is not None
    assert (event.cause, event.outcome) == ("manual", "succeeded")
    sandbox.register(str(row.external_api.secrets["client_credentials.client_id"]), failure="status")
    page = operator.post(url_of(row, "refresh"), follow=True).content.decode()
    assert "The token was not renewed" in page


@pytest.mark.django_db(transaction=True)
def test_revoke_asks_first_and_tells_the_provider(operator: Client, sandbox: Sandbox) -> None:
    row = make_machine(sandbox)
    operator.post(url_of(row, "refresh"))
    token = ExternalApiConnection.objects.get(pk=row.pk).credential.secrets["access_token"]
    question = page_of(operator, row, "revoke")
    assert "Yes, revoke it" in question
    assert ExternalApiConnection.objects.get(pk=row.pk).status == "active"
    page = operator.post(url_of(row, "revoke"), follow=True).content.decode()
    assert "The connection is revoked" in page
    assert url_of(row, "revoke") not in page
    row = ExternalApiConnection.objects.get(pk=row.pk)
    assert row.status == "revoked"
    assert "access_token" not in row.credential.secrets
    client_id = str(row.external_api.secrets["client_credentials.client_id"])
    assert sandbox.oauth_counts(client_id)["revocations"] == 1
    assert token not in page


@pytest.mark.parametrize("page", ["refresh", "revoke"])
def test_only_those_who_may_change_the_row(sandbox: Sandbox, page: str) -> None:
    row = make_machine(sandbox)
    viewer = signed_in(make_user(permissions=["connections.view_externalapiconnection"]))
    stranger = signed_in(make_user(tenant=make_tenant(), permissions=MANAGER))
    for client in (viewer, stranger):
        assert client.post(url_of(row, page)).status_code == 404
    assert url_of(row, page) not in page_of(viewer, row)
    assert Client().post(url_of(row, page)).status_code == 302  # to the log-in
    manager = signed_in(make_user(permissions=MANAGER))
    assert manager.post(url_of(make_connection(), page)).status_code == 404
    assert not GrantEvent.objects.exclude(kind="authorized").exists()


def test_posts_need_a_csrf_token(sandbox: Sandbox) -> None:
    row = make_machine(sandbox)
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_user(is_superuser=True))
    for page in ("refresh", "revoke"):
        assert client.post(url_of(row, page)).status_code == 403
