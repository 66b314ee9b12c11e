"""The authorization code flow against the sandbox's authorization server: every end that it can have."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
import time_machine
from django.core.exceptions import ObjectDoesNotExist
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from connections import services
from connections.models import ConnectionStatus, ExternalApiConnection, OAuthFlow
from external_apis.models import AuditEvent
from external_apis.providers import update_external_api
from tests.authority import SECRET, Authority, authorize, come_back, connect, consent, hand_over, query_of
from tests.factories import MANAGER, make_connection, make_key, make_partner, make_provider, make_tenant, make_user
from tests.grants import kinds, secrets_of, stored
from tests.rest import PROVIDERS, RestClient, connections_of, error_of, signed_in, with_key

pytestmark = pytest.mark.django_db(transaction=True)


def flow_of(api: Any) -> OAuthFlow:
    return OAuthFlow.objects.filter(external_api=api).latest("created_at")


def made_by(flow: OAuthFlow) -> ExternalApiConnection:
    assert flow.made_connection is not None
    return stored(flow.made_connection)


def text_of(answer: Any) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", answer.content.decode()).split())


# --- the good end ---------------------------------------------------------------------------------------------------


def test_a_click_makes_a_connection_that_works(authority: Authority, staff: RestClient) -> None:
    api = authority.oauth2()
    url = authorize(staff, api)
    asked = query_of(url)
    assert asked["code_challenge_method"] == "S256"
    assert asked["scope"] == "read write"
    assert asked["redirect_uri"] == f"http://127.0.0.1:8000{PROVIDERS}/{api.pk}/oauth/callback"
    assert len(asked["state"]) >= 43
    answer = come_back(staff, consent(url))
    assert answer.status_code == 200
    assert "is connected" in text_of(answer)
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    row = made_by(flow_of(api))
    assert (row.status, row.connection_name, row.slug) == (ConnectionStatus.ACTIVE, api.name, "default")
    assert {"access_token", "refresh_token"} == set(secrets_of(row))
    assert row.credential.scopes == ["read", "write"]
    assert row.grant.due_at is not None
    assert kinds(row) == ["authorized"]
    assert {"connection.created", "connection.authorized"} == set(
        AuditEvent.objects.filter(object_id=row.pk).values_list("action", flat=True)
    )
    assert services.test_connection(row).is_ok


def test_nothing_of_an_attempt_is_left_but_its_digest(authority: Authority, staff: RestClient) -> None:
    api = authority.oauth2()
    url = authorize(staff, api)
    flow = flow_of(api)
    assert set(flow.secrets) == {"kept", "code_verifier"}
    state = query_of(url)["state"]
    assert state not in str(OAuthFlow.objects.filter(pk=flow.pk).values_list().get())
    location = consent(url)
    come_back(staff, location)
    flow.refresh_from_db()
    assert dict(flow.secrets) == {}
    assert flow.used_at is not None


def test_whom_it_is_for_and_what_it_is_called_comes_from_the_query(authority: Authority, staff: RestClient) -> None:
    tenant = make_tenant()
    partner = make_partner(tenant)
    api = authority.oauth2()
    row = connect(staff, api, f"?connection_name=Acme&sales_channel_id={tenant.pk}&partner_id={partner.pk}")
    assert (row.connection_name, row.tenant, row.partner) == ("Acme", tenant, partner)


def test_a_connection_is_authorised_again_and_keeps_its_name_and_place(authority: Authority, staff: RestClient) -> None:
    api = authority.oauth2()
    row = connect(staff, api)
    before = secrets_of(row)
    ExternalApiConnection.objects.filter(pk=row.pk).update(status="expired", error_message="over", slug="kept")
    again = connect(staff, api, f"?connection={row.pk}")
    assert (again.pk, again.slug, again.status, again.error_message) == (row.pk, "kept", "active", None)
    assert secrets_of(row)["access_token"] != before["access_token"]
    assert kinds(row) == ["authorized", "reauthorized"]
    assert ExternalApiConnection.objects.filter(external_api=api).count() == 1


def test_parallel_tabs_do_not_disturb_each_other(authority: Authority, staff: RestClient) -> None:
    api = authority.oauth2()
    first, second = authorize(staff, api), authorize(staff, api)
    assert come_back(staff, consent(second)).status_code == 200
    assert come_back(staff, consent(first)).status_code == 200
    assert ExternalApiConnection.objects.filter(external_api=api).count() == 2


def test_the_seeds_own_callback_is_resolved_by_the_state(authority: Authority, staff: RestClient) -> None:
    api = authority.oauth2()
    uri = f"http://127.0.0.1:8000/api/admin/oauth/{api.slug}/callback"
    update_external_api(api, {"api_config": {"oauth2": {"redirect_uri": uri}}})
    api.refresh_from_db()
    authority.sandbox.register(api.provider, redirect_uris=[uri])
    location = consent(authorize(staff, api))
    assert location.startswith(uri)
    assert come_back(staff, location).status_code == 200


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:8000"])
def test_both_names_of_this_machine_keep_the_session(authority: Authority, staff: RestClient, host: str) -> None:
    api = authority.oauth2()
    location = consent(authorize(staff, api, host=host))
    assert location.startswith(f"http://{host}/")
    assert come_back(staff, location, host=host).status_code == 200


def test_a_callback_at_the_other_name_leads_to_where_the_session_is(authority: Authority, staff: RestClient) -> None:
    uri = "http://127.0.0.1:8000/api/admin/oauth/hop/callback"
    api = authority.oauth2(fields={"slug": "hop"}, client={"redirect_uris": [uri]}, redirect_uri=uri)
    location = consent(authorize(staff, api, host="localhost:8000"))
    answer = come_back(RestClient(), location, host="127.0.0.1:8000")
    assert answer.status_code == 302
    assert answer.headers["Location"] == location.replace("127.0.0.1", "localhost", 1)
    assert come_back(staff, answer.headers["Location"], host="localhost:8000").status_code == 200


# --- refusals -------------------------------------------------------------------------------------------------------


def refused(answer: Any, reason: str) -> None:
    assert answer.status_code == 400, answer.content
    assert reason in text_of(answer)
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_callback_works_once(authority: Authority, staff: RestClient) -> None:
    api = authority.oauth2()
    location = consent(authorize(staff, api))
    come_back(staff, location)
    refused(come_back(staff, location), "finished before")
    assert ExternalApiConnection.objects.filter(external_api=api).count() == 1


def test_another_session_finishes_nothing_and_spoils_nothing(authority: Authority, staff: RestClient) -> None:
    api = authority.oauth2()
    location = consent(authorize(staff, api))
    for other in (RestClient(), signed_in(make_user(permissions=MANAGER))):
        refused(come_back(other, location), "another browser or session")
    assert come_back(staff, location).status_code == 200


def test_a_state_that_nobody_gave_out(authority: Authority, staff: RestClient) -> None:
    api = authority.oauth2()
    for query in ("", "?code=x", "?code=x&state=made-up", "?state=", f"?code=x&state={'s' * 4000}"):
        refused(staff.get(f"{PROVIDERS}/{api.pk}/oauth/callback{query}"), "not known")


def test_ten_minutes_are_enough(authority: Authority, staff: RestClient) -> None:
    api = authority.oauth2()
    url = authorize(staff, api)
    location = consent(url)
    with time_machine.travel(timezone.now() + timedelta(seconds=601)):
        refused(come_back(staff, location), "expired")
    assert not ExternalApiConnection.objects.filter(external_api=api).exists()


def test_another_providers_callback_does_not_take_it(authority: Authority, staff: RestClient) -> None:
    api, other = authority.oauth2(), authority.oauth2()
    location = consent(authorize(staff, api))
    refused(come_back(staff, location.replace(api.pk, other.pk)), "another address")
    by_slug = f"http://127.0.0.1:8000/api/admin/oauth/{other.slug}/callback?" + location.partition("?")[2]
    refused(come_back(staff, by_slug), "another address")
    assert come_back(staff, location).status_code == 200


def test_any_of_a_providers_own_addresses_takes_it(authority: Authority, staff: RestClient) -> None:
    """As where a proxy maps the registered path to ours; the provider compares the address, letter for letter."""
    uri = "https://app.example.com/oauth/done"
    for path in ("/api/admin/oauth/{0.slug}/callback", f"{PROVIDERS}/{{0.pk}}/oauth/callback"):
        api = authority.oauth2(client={"redirect_uris": [uri]}, redirect_uri=uri)
        location = consent(authorize(staff, api))
        assert location.startswith(f"{uri}?")
        assert come_back(staff, location.replace("/oauth/done", path.format(api))).status_code == 200


@pytest.mark.parametrize("iss", ["wrong", "own", "none"])
@pytest.mark.parametrize("is_configured", [True, False])
def test_the_issuer_is_compared(authority: Authority, staff: RestClient, iss: str, is_configured: bool) -> None:
    block = {"issuer": authority.url, "iss_required": True} if is_configured else {}
    api = authority.oauth2(client={"iss": iss}, **block)
    answer = come_back(staff, consent(authorize(staff, api)))
    if iss == "wrong" or (iss == "none" and is_configured):
        refused(answer, "(iss)")
        assert "token_requests" not in authority.counts(api)
    else:
        assert answer.status_code == 200


def test_what_the_provider_says_is_shown_bounded_and_escaped(authority: Authority, staff: RestClient) -> None:
    words = "<script>alert(1)</script>" + "so long " * 200
    api = authority.oauth2(client={"consent": "deny", "consent_description": words})
    answer = come_back(staff, consent(authorize(staff, api)))
    refused(answer, "access_denied")
    assert b"<script" not in answer.content
    assert b"&lt;script" in answer.content
    assert len(answer.content) < 4_000
    assert flow_of(api).error.startswith("The provider refused: access_denied")


def test_a_failed_renewal_of_consent_is_an_event_and_changes_nothing(authority: Authority, staff: RestClient) -> None:
    api = authority.oauth2()
    row = connect(staff, api)
    before = secrets_of(row)
    authority.sandbox.register(api.provider, consent="deny")
    refused(come_back(staff, consent(authorize(staff, api, f"?connection={row.pk}"))), "access_denied")
    assert secrets_of(row) == before
    assert kinds(row) == ["authorized", "reauthorization_failed"]
    assert stored(row).status == "active"


@pytest.mark.parametrize(
    "query",
    [
        "state={state}&state={state}&code=x",
        "state={state}&code=x&code=y",
        "state={state}&code=" + "c" * 4001,
        "state={state}&code=%00",
        "state={state}&error=%00",
    ],
)
def test_malformed_answers_are_refused_and_spoil_nothing(authority: Authority, staff: RestClient, query: str) -> None:
    api = authority.oauth2()
    url = authorize(staff, api)
    state = query_of(url)["state"]
    answer = staff.get(f"{PROVIDERS}/{api.pk}/oauth/callback?" + query.format(state=state))
    assert answer.status_code == 400
    assert come_back(staff, consent(url)).status_code == 200


def test_neither_code_nor_error(authority: Authority, staff: RestClient) -> None:
    api = authority.oauth2()
    state = query_of(authorize(staff, api))["state"]
    refused(staff.get(f"{PROVIDERS}/{api.pk}/oauth/callback?state={state}"), "neither a code nor an error")


def test_a_code_that_the_provider_did_not_give(authority: Authority, staff: RestClient) -> None:
    api = authority.oauth2()
    state = query_of(authorize(staff, api))["state"]
    query = urlencode({"state": state, "code": "somebody-elses-code"})
    answer = staff.get(f"{PROVIDERS}/{api.pk}/oauth/callback?{query}")
    assert answer.status_code == 502
    assert "invalid_grant" in text_of(answer)
    assert "somebody-elses-code" not in answer.content.decode()
    assert not ExternalApiConnection.objects.filter(external_api=api).exists()


def test_what_was_deleted_or_switched_off_meanwhile(authority: Authority, staff: RestClient) -> None:
    tenant = make_tenant()
    api = authority.oauth2()
    row = connect(staff, api, f"?sales_channel_id={tenant.pk}")
    location = consent(authorize(staff, api, f"?connection={row.pk}"))
    services.delete_connection(row)
    assert come_back(staff, location).status_code == 404
    url = authorize(staff, api, f"?sales_channel_id={tenant.pk}")
    tenant.is_active = False
    tenant.save()
    assert come_back(staff, consent(url)).status_code == 409
    assert error_of(staff.get(f"{PROVIDERS}/{api.pk}/oauth/authorize?sales_channel_id={tenant.pk}"))[0] == 409


def test_rights_that_went_meanwhile_count(authority: Authority) -> None:
    user = make_user(permissions=MANAGER)
    client = signed_in(user)
    api = authority.oauth2()
    location = consent(authorize(client, api))
    user.user_permissions.clear()
    answer = come_back(client, location)
    assert answer.status_code == 403
    assert not ExternalApiConnection.objects.filter(external_api=api).exists()


# --- who may begin --------------------------------------------------------------------------------------------------


def test_beginning_needs_the_right_to_add_or_to_change(authority: Authority) -> None:
    api = authority.oauth2()
    row = make_connection(api, credentials={"access_token": "at-1"})
    path = f"{PROVIDERS}/{api.pk}/oauth/authorize"
    view, add = ("connections.view_externalapiconnection",), ("connections.add_externalapiconnection",)
    assert error_of(RestClient().get(path))[0] == 401
    assert error_of(signed_in(make_user(permissions=view)).get(path))[0] == 403
    adder = signed_in(make_user(permissions=add))
    assert adder.get(path).status_code == 302
    assert error_of(adder.get(f"{path}?connection={row.pk}"))[0] == 403


def test_tenants_connect_what_is_theirs(authority: Authority) -> None:
    mine, theirs = make_tenant(), make_tenant()
    client = signed_in(make_user(tenant=mine, permissions=MANAGER))
    api = authority.oauth2()
    assert connect(client, api).tenant == mine
    path = f"{PROVIDERS}/{api.pk}/oauth/authorize"
    assert error_of(client.get(f"{path}?sales_channel_id={theirs.pk}"))[0] == 404
    foreign = make_connection(api, tenant=theirs, credentials={"access_token": "at-2"})
    assert error_of(client.get(f"{path}?connection={foreign.pk}"))[0] == 404


def test_another_site_begins_nothing(authority: Authority, staff: RestClient) -> None:
    api = authority.oauth2()
    answer = staff.get(f"{PROVIDERS}/{api.pk}/oauth/authorize", headers={"Sec-Fetch-Site": "cross-site"})
    assert error_of(answer)[0] == 403
    assert not OAuthFlow.objects.exists()


@pytest.mark.parametrize("query", ["?nonsense=1", "?connection_name=", "?connection_name=%00", "?connection=conn_none"])
def test_a_query_that_is_wrong(authority: Authority, staff: RestClient, query: str) -> None:
    api = authority.oauth2()
    status, _ = error_of(staff.get(f"{PROVIDERS}/{api.pk}/oauth/authorize{query}"))
    assert status in (400, 404)


def test_auth_types_without_a_sign_in(staff: RestClient) -> None:
    api = make_provider()
    answer = staff.get(f"{PROVIDERS}/{api.pk}/oauth/authorize")
    assert error_of(answer) == (400, "VALIDATION_ERROR")


def test_url_variables_are_asked_for_and_kept(authority: Authority, staff: RestClient) -> None:
    api = authority.oauth2()
    variables = {"shop": {"pattern": "[a-z]+"}}
    update_external_api(api, {"api_config": {"url_variables": variables, "base_url": f"{authority.url}/x/{{shop}}"}})
    path = f"{PROVIDERS}/{api.pk}/oauth/authorize"
    assert error_of(staff.get(path))[0] == 400
    assert error_of(staff.get(f"{path}?shop=N0PE"))[0] == 400
    assert connect(staff, api, "?shop=acme").provider_data == {"shop": "acme"}


# --- keys and terminals -----------------------------------------------------------------------------------------------


def test_what_a_key_began_is_finished_by_that_key(authority: Authority) -> None:
    api = authority.oauth2()
    program = with_key()
    answer = program.get(f"{PROVIDERS}/{api.pk}/oauth/authorize")
    url = answer.json()["authorization_url"]
    assert answer.headers["Location"] == url
    state = query_of(url)["state"]
    path = f"{PROVIDERS}/{api.pk}/oauth/callback"
    assert program.get(f"{path}?state={state}").status_code == 202
    shown = hand_over(RestClient(), consent(url))
    assert shown.status_code == 200
    assert "Go back to the program" in text_of(shown)
    assert not ExternalApiConnection.objects.filter(external_api=api).exists()
    refused(come_back(RestClient(), f"http://x{path}?state={state}&code=another"), "finished before")
    done = program.get(f"{path}?state={state}")
    assert (done.status_code, done.json()["status"]) == (200, "active")
    assert error_of(program.get(f"{path}?state={state}")) == (400, "OAUTH_FLOW_REFUSED")


def test_whoever_consents_is_told_who_gets_it_and_asked(authority: Authority) -> None:
    """A key's holder may have sent the provider's address to anybody."""
    api, tenant = authority.oauth2(), make_tenant()
    made = make_key(title="Mallory & Sons", tenant=tenant)
    program = RestClient(headers={"Authorization": f"Bearer {made.token}"})
    url = program.get(f"{PROVIDERS}/{api.pk}/oauth/authorize").json()["authorization_url"]
    state, path = query_of(url)["state"], f"{PROVIDERS}/{api.pk}/oauth/callback"
    victim, location = RestClient(), consent(url)
    for address in (location, f"http://127.0.0.1:8000{path}?state={state}&error=access_denied"):
        asked = come_back(victim, address)
        assert asked.status_code == 200
        assert asked.headers["Referrer-Policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in asked.headers["Content-Security-Policy"]
        for words in ("Mallory &amp; Sons", tenant.name, api.name):
            assert words in text_of(asked)
        assert program.get(f"{path}?state={state}").status_code == 202, "looking gives nothing, and burns nothing"
    assert error_of(come_back(with_key(), location)) == (400, "OAUTH_FLOW_REFUSED")
    assert "Go back to the program" in text_of(hand_over(victim, location))
    assert program.get(f"{path}?state={state}").json()["status"] == "active"
    refused(come_back(victim, location), "finished before")


def test_a_key_may_bring_the_answer_itself(authority: Authority) -> None:
    api = authority.oauth2()
    program = with_key()
    url = program.get(f"{PROVIDERS}/{api.pk}/oauth/authorize").json()["authorization_url"]
    done = come_back(program, consent(url))
    assert (done.status_code, done.json()["external_api_id"]) == (200, api.pk)


def test_behind_a_proxy_a_keys_networks_hold_the_address_that_the_proxy_tells(
    authority: Authority, settings: Any
) -> None:
    settings.TRUST_PROXY_HEADERS = True
    api = authority.oauth2()
    made = make_key(allowed_networks=["203.0.113.7"])
    program = RestClient(headers={"Authorization": f"Bearer {made.token}", "X-Forwarded-For": "203.0.113.7"})
    location = consent(program.get(f"{PROVIDERS}/{api.pk}/oauth/authorize").json()["authorization_url"])
    elsewhere = RestClient(headers={"Authorization": f"Bearer {made.token}", "X-Forwarded-For": "203.0.113.8"})
    assert error_of(come_back(elsewhere, location)) == (403, "FORBIDDEN")
    assert come_back(program, location).status_code == 200


def test_a_wrong_key_is_told_so_in_json(authority: Authority, staff: RestClient) -> None:
    api = authority.oauth2()
    location = consent(authorize(staff, api))
    answer = come_back(RestClient(), location, Authorization="Bearer wrong")
    assert error_of(answer)[0] == 401
    assert error_of(come_back(with_key(), location)) == (400, "OAUTH_FLOW_REFUSED")
    assert come_back(staff, location).status_code == 200


# --- how providers differ -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "block"),
    [
        ({"authentication": ["basic"]}, {"client_auth": "basic"}),
        ({"authentication": ["body"]}, {"client_auth": "body"}),
        ({"token_body": "json"}, {"token_request": "json"}),
        ({"pkce": "refused"}, {"pkce": False}),
        ({"scope_separator": ","}, {"scope_separator": ","}),
        ({"expiry_style": "text"}, {}),
        ({"expiry_style": "timestamp"}, {"expires_path": "expires_at", "expires_kind": "timestamp"}),
        ({"expiry_style": "timestamp_text"}, {"expires_path": "expires_at", "expires_kind": "timestamp"}),
        ({"expiry_style": "milliseconds"}, {"expires_path": "expires_at", "expires_kind": "timestamp_ms"}),
        ({"expiry_style": "date"}, {"expires_path": "expires_at", "expires_kind": "date"}),
        ({"expiry_style": "none"}, {"default_life_seconds": 150}),
        (
            {"answer_style": "slack"},
            {
                "access_token_path": "authed_user.access_token",
                "refresh_token_path": "authed_user.refresh_token",
                "scope_path": "authed_user.scope",
                "expires_path": "authed_user.expires_in",
                "kept_answer_fields": {"team_id": "team.id", "secret": "authed_user.access_token"},
            },
        ),
        (
            {"answer_style": "nested"},
            {
                "access_token_path": "data.token.access_token",
                "refresh_token_path": "data.token.refresh_token",
                "scope_path": "data.token.scope",
                "expires_path": "data.token.expires_in",
            },
        ),
        ({"shows_scope": False}, {}),
    ],
)
def test_quirks_are_configuration(
    authority: Authority, staff: RestClient, client: dict[str, Any], block: dict[str, Any]
) -> None:
    api = authority.oauth2(client=client, **block)
    row = connect(staff, api)
    assert row.credential.scopes == ["read", "write"]
    assert row.credential.expires_at is not None
    assert 100 < (row.credential.expires_at - timezone.now()).total_seconds() <= 151
    assert row.provider_data == ({"team_id": "T0SANDBOX"} if "kept_answer_fields" in block else {})
    assert set(secrets_of(row)) == {"access_token", "refresh_token"}
    renewed = services.refresh_token(row.pk)
    assert renewed.credential.expires_at is not None


def test_more_parameters_are_sent_where_they_belong(authority: Authority, staff: RestClient) -> None:
    api = authority.oauth2(
        authorize_params={"access_type": "offline", "prompt": "a b&c=d"},
        token_params={"audience": "https://api.example.com"},
        scope_parameter="user_scope",
    )
    asked = query_of(authorize(staff, api))
    assert (asked["access_type"], asked["prompt"], asked["user_scope"]) == ("offline", "a b&c=d", "read write")
    assert "scope" not in asked
    assert "audience" not in asked


def test_scopes_that_are_missing_are_shown(authority: Authority, staff: RestClient) -> None:
    api = authority.oauth2(client={"granted_scopes": ["read"]})
    location = consent(authorize(staff, api))
    answer = come_back(staff, location)
    assert "not granted: write" in text_of(answer)
    row = made_by(flow_of(api))
    shown = staff.get(f"{connections_of(api)}/{row.pk}").json()
    assert (shown["scopes_requested"], shown["scopes_missing"]) == (["read", "write"], ["write"])
    assert shown["needs_reconsent"] is True


def test_a_provider_that_asks_for_more_needs_consent_once_more(authority: Authority, staff: RestClient) -> None:
    api = authority.oauth2(client={"scopes": ["read", "write", "admin"]}, implied_scopes=["offline_access"])
    row = connect(staff, api)
    path = f"{connections_of(api)}/{row.pk}"
    assert staff.get(path).json()["needs_reconsent"] is False
    scopes = ["read", "write", "admin", "offline_access"]
    update_external_api(api, {"api_config": {"oauth2": {"scopes": scopes}}})
    shown = staff.get(path).json()
    assert (shown["needs_reconsent"], shown["scopes_missing"]) == (True, ["admin"])
    assert staff.get(connections_of(api)).json()[0]["needs_reconsent"] is True
    update_external_api(api, {"api_config": {"oauth2": {"scopes": ["read", "admin"]}}})
    api.refresh_from_db()
    connect(staff, api, f"?connection={row.pk}")
    assert staff.get(path).json()["needs_reconsent"] is False


# --- what it costs and leaves behind --------------------------------------------------------------------------------


def test_queries_are_counted(authority: Authority, staff: RestClient) -> None:
    api = authority.oauth2()
    connect(staff, api)
    with CaptureQueriesContext(database) as begun:
        url = authorize(staff, api)
    parts = urlsplit(consent(url))
    with CaptureQueriesContext(database) as ended:
        answer = staff.get(f"{parts.path}?{parts.query}")
    with CaptureQueriesContext(database) as shown:
        assert staff.get(answer.headers["Location"]).status_code == 200
    assert len(begun) <= 20
    assert len(ended) <= 56  # what is noted for the audit log is noted for webhooks too
    assert len(shown) <= 6


def test_old_attempts_are_forgotten(authority: Authority, staff: RestClient) -> None:
    api = authority.oauth2()
    authorize(staff, api)
    old = flow_of(api)
    OAuthFlow.objects.filter(pk=old.pk).update(expires_at=timezone.now() - timedelta(days=2))
    authorize(staff, api)
    with pytest.raises(ObjectDoesNotExist):
        old.refresh_from_db()
    assert OAuthFlow.objects.count() == 1


def test_no_secret_is_logged(authority: Authority, staff: RestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    api = authority.oauth2()
    url = authorize(staff, api)
    location = consent(url)
    come_back(staff, location)
    come_back(staff, location)
    row = made_by(flow_of(api))
    told = caplog.text
    for secret in (query_of(url)["state"], query_of(location)["code"], SECRET, *secrets_of(row).values()):
        assert secret not in told


# --- in a browser ---------------------------------------------------------------------------------------------------

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def test_no_code_stays_in_the_browsers_history(authority: Authority, staff: RestClient) -> None:
    api = authority.oauth2()
    location = consent(authorize(staff, api))
    parts = urlsplit(location)
    answer = staff.get(f"{parts.path}?{parts.query}")
    page = f"{PROVIDERS}/{api.pk}/oauth/attempts/{flow_of(api).pk}"
    assert (answer.status_code, answer.headers["Location"]) == (303, page)
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    for _ in range(2):  # it may be loaded again
        shown = staff.get(page)
        assert shown.status_code == 200
        assert "is connected" in text_of(shown)
        assert shown.headers["Cache-Control"] == "no-store"


def test_what_became_of_an_attempt_is_for_the_session_that_began_it(authority: Authority, staff: RestClient) -> None:
    api, other = authority.oauth2(), authority.oauth2()
    location = consent(authorize(staff, api))
    path = f"{PROVIDERS}/{api.pk}/oauth/attempts"
    page = f"{path}/{flow_of(api).pk}"
    assert staff.get(page).status_code == 404  # nothing has become of it yet
    come_back(staff, location)
    strangers = (RestClient(), signed_in(make_user(permissions=MANAGER)), with_key())
    answers = [stranger.get(page) for stranger in strangers]
    answers += [staff.get(page.replace(api.pk, other.pk)), staff.get(f"{path}/flow_none"), staff.get(f"{path}/%FF")]
    for answer in answers:
        assert answer.status_code == 404
        assert api.name not in text_of(answer)
        assert "Nothing is known" in text_of(answer)
    assert staff.get(f"{path}/%00").status_code == 400
    assert staff.get(page).status_code == 200


def test_a_browser_without_a_session_is_led_to_the_log_in_page_and_back(authority: Authority) -> None:
    api = authority.oauth2()
    path = f"{PROVIDERS}/{api.pk}/oauth/authorize?connection_name=A%26B"
    for accept in (BROWSER["Accept"], "text/html"):
        answer = RestClient().get(path, headers={"Accept": accept})
        assert answer.status_code == 302
        where = urlsplit(answer.headers["Location"])
        assert where.path == reverse("admin:login")
        assert query_of(answer.headers["Location"]) == {"next": path}
    for headers in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}, {**BROWSER, "Authorization": "Bearer no"}):
        assert error_of(RestClient().get(path, headers=headers))[0] == 401
    user = make_user(permissions=MANAGER)
    user.set_password("a password of the tests")
    user.save()
    browser = Client()
    back = browser.post(
        RestClient().get(path, headers=BROWSER).headers["Location"],
        {"username": user.username, "password": "a password of the tests", "next": path},
    )
    assert (back.status_code, back.headers["Location"]) == (302, path)
    assert browser.get(path, headers=BROWSER).headers["Location"].startswith(f"{authority.url}/oauth/authorize?")


def test_a_browser_is_asked_for_the_parts_of_addresses(authority: Authority, staff: RestClient) -> None:
    api = authority.oauth2()
    variables = {"shop": {"pattern": "[a-z]+"}, "region": {"pattern": "[a-z]+", "default": "eu"}}
    base_url = f"{authority.url}/x/{{shop}}/{{region}}"
    update_external_api(api, {"api_config": {"url_variables": variables, "base_url": base_url}})
    path = f"{PROVIDERS}/{api.pk}/oauth/authorize"
    asked = staff.get(f"{path}?connection_name=A%22B", headers=BROWSER)
    assert asked.status_code == 200
    page = asked.content.decode()
    assert f'<form method="get" action="{path}"' in page
    assert '<input id="shop" name="shop" value=""' in page
    assert '<input type="hidden" name="connection_name" value="A&quot;B">' in page
    assert 'name="region"' not in page, "it has a default"
    assert "<script" not in page
    assert "frame-ancestors 'none'" in asked.headers["Content-Security-Policy"]
    wrong = staff.get(f"{path}?shop=%3Cb%3E", headers=BROWSER)
    assert wrong.status_code == 400
    assert 'value="&lt;b&gt;"' in wrong.content.decode()
    assert not OAuthFlow.objects.exists()
    gone = staff.get(f"{path}?shop=acme&region=", headers=BROWSER)
    assert gone.status_code == 302
    come_back(staff, consent(gone.headers["Location"]))
    assert made_by(flow_of(api)).provider_data == {"shop": "acme"}


def test_a_browser_that_another_site_has_sent_is_asked_to_click(authority: Authority, staff: RestClient) -> None:
    """So ends a sign-on by OpenID Connect that began with this very address."""
    api = authority.oauth2()
    path = f"{PROVIDERS}/{api.pk}/oauth/authorize"
    answer = staff.get(path, headers={**BROWSER, "Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 200
    assert f"Continue to {api.name}" in text_of(answer)
    assert not OAuthFlow.objects.exists()
    assert staff.get(path, headers={**BROWSER, "Sec-Fetch-Site": "same-origin"}).status_code == 302
