"""The connection pages of the admin, with real posts and, for 'Test connection', a real provider."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext

from connections.models import ConnectionStatus, ExternalApiConnection
from connections.seeding import seed_sandbox
from connections.services import delete_connection
from external_apis.api_config import PLACEHOLDER
from external_apis.models import ExternalApi
from external_apis.providers import delete_external_api
from tests.factories import MANAGER, make_connection, make_many_connections, make_provider, make_tenant, make_user
from tests.sandbox import Sandbox

pytestmark = pytest.mark.django_db

LIST = "/admin/connections/externalapiconnection/"
ADD = f"{LIST}add/"
SECRET = "a-very-secret-token-of-this-test-0001"


def url_of(row: ExternalApiConnection, page: str = "change") -> str:
    return f"{LIST}{quote(row.pk)}/{page}/"


def client_of(*permissions: str, **user: Any) -> Client:
    client = Client()
    client.force_login(make_user(permissions=permissions, **user))
    return client


@pytest.fixture
def operator() -> Client:
    return client_of(username="operator", is_superuser=True)


def posted(**values: Any) -> dict[str, Any]:
    page = {
        "connection_name": "Main",
        "slug": "",
        "note": "",
        "rotate_by": "",
        "provider_data": "",
        "tenant": "",
        "partner": "",
        "user": "",
        "owner": "",
        "credentials.expires_at_0": "",
        "credentials.expires_at_1": "",
        "credentials.scopes": "",
    }
    return page | values


def changed(**values: Any) -> dict[str, Any]:
    return posted(**{"slug": "default", "status": "active", **values})


def problems(response: Any) -> dict[str, list[str]]:
    assert response.status_code == 200, "the form was accepted"
    errors: dict[str, list[str]] = response.context["adminform"].form.errors
    return {name: list(messages) for name, messages in errors.items()}


def add(client: Client, api: ExternalApi, **values: Any) -> Any:
    return client.post(f"{ADD}?external_api={api.pk}", posted(**values))


def test_adding_starts_with_the_choice_of_a_provider(operator: Client) -> None:
    api = make_provider(slug="some-provider")
    delete_external_api(make_provider(slug="gone-provider"))
    page = operator.get(ADD).content.decode()
    assert f"?external_api={api.pk}" in page
    assert "gone-provider" not in page
    assert "some-provider" not in operator.get(f"{ADD}?q=other").content.decode()
    assert operator.get(f"{ADD}?external_api=no-such").status_code == 200


def test_the_form_asks_for_the_credentials_of_the_auth_type(operator: Client) -> None:
    basic = operator.get(f"{ADD}?external_api={make_provider(api_config={'auth_type': 'basic'}).pk}").content.decode()
    assert 'name="credentials.username"' in basic
    assert 'name="credentials.access_token"' not in basic
    headers = {"location": "headers", "headers": {"DD-API-KEY": "one", "DD-APP-KEY": "two"}}
    api = make_provider(api_config={"auth_type": "api_key", "api_key": headers})
    page = operator.get(f"{ADD}?external_api={api.pk}").content.decode()
    assert 'name="credentials.one"' in page
    assert 'name="credentials.two"' in page


def test_a_posted_form_makes_the_connection(operator: Client) -> None:
    api = make_provider()
    values = {
        "credentials.access_token": SECRET,
        "credentials.expires_at_0": "2030-01-02",
        "credentials.expires_at_1": "03:04:05",
        "credentials.scopes": "read\r\nwrite",
        "provider_data": '{"account_id": "acct_1"}',
        "rotate_by": "2029-12-31",
    }
    response = add(operator, api, **values)
    assert response.status_code == 302, problems(response)
    row = ExternalApiConnection.objects.get()
    assert (row.slug, row.provider_data) == ("default", {"account_id": "acct_1"})
    assert dict(row.credential.secrets) == {"access_token": SECRET}
    assert row.credential.expires_at == datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert row.credential.scopes == ["read", "write"]
    assert row.created_by == "user:operator"


def test_problems_stand_at_their_fields(operator: Client) -> None:
    api = make_provider()
    assert "slug" in problems(add(operator, api, slug="Not a slug"))
    assert (
        "placeholder"
        in problems(add(operator, api, **{"credentials.access_token": PLACEHOLDER}))["credentials.access_token"][0]
    )
    assert "provider_data" in problems(add(operator, api, provider_data="[" * 5000))
    assert "credentials.scopes" in problems(add(operator, api, **{"credentials.scopes": "x" * 501}))
    assert "connection_name" in problems(add(operator, api, connection_name="a\0b"))
    make_connection(api, slug="default")
    assert "exists already" in problems(add(operator, api, slug="default"))["__all__"][0]
    assert ExternalApiConnection.objects.count() == 1


def test_empty_keeps_and_the_box_removes_a_stored_credential(operator: Client) -> None:
    row = make_connection(make_provider(), credentials={"access_token": SECRET, "api_key": "second"})
    before = row.authenticated_at
    page = operator.get(url_of(row)).content.decode()
    assert SECRET not in page
    assert page.count(f'placeholder="{PLACEHOLDER}"') == 2
    assert operator.post(url_of(row), changed(connection_name="Renamed")).status_code == 302
    row = ExternalApiConnection.objects.get()
    assert dict(row.credential.secrets) == {"access_token": SECRET, "api_key": "second"}
    assert (row.connection_name, row.authenticated_at) == ("Renamed", before)
    operator.post(url_of(row), changed(**{"credentials.api_key-remove": "on"}))
    assert dict(ExternalApiConnection.objects.get().credential.secrets) == {"access_token": SECRET}


def test_a_new_credential_makes_an_expired_connection_active(operator: Client) -> None:
    row = make_connection()
    ExternalApiConnection.objects.update(status=ConnectionStatus.EXPIRED)
    values = changed(status="expired", **{"credentials.access_token": SECRET})
    assert operator.post(url_of(row), values).status_code == 302
    row.refresh_from_db()
    assert row.status == ConnectionStatus.ACTIVE


def test_no_page_log_or_history_row_shows_a_credential(operator: Client) -> None:
    row = make_connection(credentials={"access_token": SECRET})
    operator.post(url_of(row), changed(connection_name="Renamed", **{"credentials.access_token": f"{SECRET}-new"}))
    history = operator.get(url_of(row, "history")).content.decode()
    assert "connection_name" in history
    assert "Renamed" in history
    row.credential.refresh_from_db()
    assert f"→ {row.credential.secret_fingerprints['access_token']}" in history
    assert row.history.first().request_id in history
    for url in (LIST, url_of(row), url_of(row, "history"), url_of(row, "delete"), "/admin/"):
        assert SECRET not in operator.get(url).content.decode(), url
    refused = operator.post(url_of(row), changed(slug="No!", **{"credentials.access_token": SECRET}))
    assert SECRET not in refused.content.decode()
    assert not any(SECRET in entry.change_message + entry.object_repr for entry in LogEntry.objects.all())


def test_deleting_is_soft_and_can_be_undone(operator: Client) -> None:
    row = make_connection()
    operator.post(url_of(row, "delete"), {"post": "yes"})
    assert ExternalApiConnection.objects.get().is_deleted
    assert listed(operator) == []
    assert listed(operator, "?deleted=yes") == [row.pk]
    page = operator.get(url_of(row)).content.decode()
    assert url_of(row, "restore") in page
    assert url_of(row, "test") not in page
    assert operator.post(url_of(row, "test")).status_code == 404
    operator.post(url_of(row, "restore"))
    assert listed(operator) == [row.pk]


def test_the_test_button_really_calls(operator: Client, sandbox: Sandbox, settings: Any) -> None:
    settings.EGRESS_ALLOW = [f"127.0.0.1:{sandbox.port}"]
    seed_sandbox(sandbox.url)
    row = ExternalApiConnection.objects.get(external_api__slug="sandbox-bearer")
    assert url_of(row, "test") in operator.get(url_of(row)).content.decode()
    assert operator.get(url_of(row, "test")).status_code == 405
    before = sandbox.total()
    page = operator.post(url_of(row, "test"), follow=True).content.decode()
    assert sandbox.total() == before + 1
    assert "The connection works" in page
    assert "HTTP 200" in page
    operator.post(url_of(row), changed(**{"credentials.access_token": SECRET}))
    page = operator.post(url_of(row, "test"), follow=True).content.decode()
    assert "does not work" in page
    assert "HTTP 401" in page
    assert SECRET not in page


def test_the_last_problem_is_kept_until_a_test_succeeds(operator: Client, sandbox: Sandbox, settings: Any) -> None:
    settings.EGRESS_ALLOW = [f"127.0.0.1:{sandbox.port}"]
    seed_sandbox(sandbox.url)
    row = ExternalApiConnection.objects.get(external_api__slug="sandbox-bearer")
    right = row.credential.secrets["access_token"]
    operator.post(url_of(row), changed(**{"credentials.access_token": SECRET}))
    operator.post(url_of(row, "test"))
    row.refresh_from_db()
    assert row.error_message == "sandbox-bearer answered with status 401."
    assert row.status == ConnectionStatus.ACTIVE
    assert row.error_message in operator.get(url_of(row)).content.decode()
    # It is what a call found, and nobody's edit.
    operator.post(url_of(row), changed(**{"credentials.access_token": right}))
    assert "answered with status 401" not in operator.get(url_of(row, "history")).content.decode()
    operator.post(url_of(row, "test"))
    row.refresh_from_db()
    assert row.error_message is None


def test_a_live_row_is_not_restored(operator: Client) -> None:
    row = make_connection()
    before = row.history.count()
    page = operator.post(url_of(row, "restore"), follow=True).content.decode()
    assert "is not deleted" in page
    assert "is restored" not in page
    assert (row.history.count(), LogEntry.objects.count()) == (before, 0)


def test_a_connection_of_a_deleted_provider_is_not_called(operator: Client) -> None:
    row = make_connection()
    delete_external_api(row.external_api)
    assert url_of(row, "test") not in operator.get(url_of(row)).content.decode()
    assert operator.post(url_of(row, "test")).status_code == 404


def test_posts_need_a_csrf_token() -> None:
    row = make_connection()
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_user(is_superuser=True))
    for page in ("test", "restore", "change", "delete"):
        assert client.post(url_of(row, page)).status_code == 403


def test_who_may_only_view_sees_no_credential_and_no_button() -> None:
    row = make_connection(credentials={"access_token": SECRET})
    viewer = client_of("connections.view_externalapiconnection")
    page = viewer.get(url_of(row)).content.decode()
    assert "access_token" in page
    for hidden in (SECRET, 'type="password"', url_of(row, "test"), "_save", url_of(row, "delete")):
        assert hidden not in page
    for action in ("test", "restore"):
        assert viewer.post(url_of(row, action)).status_code == 404
    assert viewer.get(ADD).status_code == 403
    stranger = client_of()
    assert stranger.get(LIST).status_code == 403
    assert stranger.post(url_of(row, "test")).status_code == 404


def test_a_foreign_tenants_connection_is_as_missing_as_none(sandbox: Sandbox) -> None:
    mine, theirs = make_tenant("mine"), make_tenant("theirs")
    api = make_provider()
    own, foreign = make_connection(api, tenant=mine), make_connection(api, tenant=theirs)
    unowned = make_connection(api)
    member = client_of(*MANAGER, tenant=mine)
    assert listed(member) == [own.pk]
    for row in (foreign, unowned):
        for page in ("change", "history", "delete", "test", "restore"):
            for call in (member.get, member.post):
                found = call(url_of(row, page), follow=False)
                missing = call(f"{LIST}conn_missing/{page}/", follow=False)
                assert found.status_code == missing.status_code, (page, call)
                assert found.headers.get("Location") == missing.headers.get("Location")
                assert found.status_code in (302, 404, 405)
    member.post(LIST, {"action": "delete_selected", "post": "yes", "_selected_action": foreign.pk})
    foreign.refresh_from_db()
    assert not foreign.is_deleted
    assert add(member, api, connection_name="Second").status_code == 302
    assert ExternalApiConnection.objects.get(connection_name="Second").tenant == mine
    assert member.get(f"{ADD}?external_api={make_provider(tenant=theirs).pk}").context.get("adminform") is None


def test_search_finds_by_name_slug_id_and_provider(operator: Client) -> None:
    api = make_provider(slug="stripe")
    first = make_connection(api, connection_name="Payments of Berlin", slug="berlin")
    second = make_connection(make_provider(slug="twilio"), connection_name="Texts", slug="texts")
    for term, found in {
        "payments": [first.pk],
        "of ber": [first.pk],
        "berlin": [first.pk],
        "stripe": [first.pk],
        "stripe/ber": [first.pk],
        "stripe/": [first.pk],
        "stripe/texts": [],
        second.pk: [second.pk],
        "TEXTS": [second.pk],
        "%": [],
        "'; --": [],
    }.items():
        assert listed(operator, f"?q={term.replace('%', '%25')}") == found, term


def test_filters_narrow_the_list(operator: Client) -> None:
    api = make_provider(environment="staging", category="sms", tenant=(tenant := make_tenant()))
    row = make_connection(api, tenant=tenant)
    make_connection()
    for query in (
        f"external_api__id__exact={api.pk}",
        "external_api__category__exact=sms",
        "external_api__environment__exact=staging",
        f"tenant__id__exact={tenant.pk}",
    ):
        assert listed(operator, f"?{query}") == [row.pk], query
    assert listed(operator, "?status__exact=revoked") == []


def test_the_list_takes_the_same_few_queries_for_any_number_of_rows(operator: Client) -> None:
    make_connection()
    few = count_queries(operator, LIST)
    make_many_connections(make_provider(), 60)
    assert count_queries(operator, LIST) == few
    assert few <= 6
    with CaptureQueriesContext(database) as queries:
        operator.get(LIST)
    assert not any("externalapicredential" in query["sql"] for query in queries)


def test_selected_rows_are_deleted_and_restored_together(operator: Client) -> None:
    rows = [make_connection(), make_connection()]
    selected = {"_selected_action": [row.pk for row in rows]}
    confirm = operator.post(LIST, {"action": "delete_selected", **selected}).content.decode()
    assert all(row.pk in confirm for row in rows)
    operator.post(LIST, {"action": "delete_selected", "post": "yes", **selected})
    assert ExternalApiConnection.objects.filter(deleted_at=None).count() == 0
    operator.post(f"{LIST}?deleted=yes", {"action": "restore_selected", **selected})
    assert ExternalApiConnection.objects.filter(deleted_at=None).count() == 2


def test_the_provider_page_leads_to_its_connections(operator: Client) -> None:
    api = make_provider()
    page = operator.get(f"/admin/external_apis/externalapi/{api.pk}/change/").content.decode()
    assert f"{ADD}?external_api={api.pk}" in page
    assert f"{LIST}?external_api__id__exact={api.pk}" in page


def test_a_deleted_row_cannot_be_changed(operator: Client) -> None:
    row = make_connection()
    delete_connection(row)
    assert operator.post(url_of(row), changed(connection_name="Changed")).status_code == 403


def listed(client: Client, query: str = "") -> list[str]:
    response = client.get(f"{LIST}{query}")
    assert response.status_code == 200, response.headers.get("Location")
    return [row.pk for row in response.context["cl"].result_list]


def count_queries(client: Client, url: str) -> int:
    with CaptureQueriesContext(database) as queries:
        client.get(url)
    return len(queries)


def test_the_page_has_the_address_for_other_programs_ready_to_be_copied(operator: Client, settings: Any) -> None:
    settings.PUBLIC_BASE_URL = "https://apis.example.com"
    row = make_connection()
    address = f"<code>https://apis.example.com/api/external/proxy/{row.pk}</code>"
    assert address in operator.get(url_of(row)).content.decode()
