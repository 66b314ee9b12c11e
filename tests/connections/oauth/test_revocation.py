"""Ending a grant: what the provider is told, and what is left here."""

from __future__ import annotations

from typing import Any

import pytest

from connections import services
from connections.models import ConnectionStatus, GrantEvent, GrantState
from connections.oauth.revocation import revoke
from connections.oauth.tokens import Tokens
from external_apis.errors import ConnectionRevoked
from external_apis.models import AuditEvent
from external_apis.providers import update_external_api
from tests.authority import SECRET, Authority, connect
from tests.factories import make_connection, make_provider, make_user
from tests.grants import grant_of, kinds, make_granted, secrets_of, stored
from tests.rest import RestClient, connections_of, error_of, signed_in
from tests.token_server import hang_up, http, token_server

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_provider_is_told_and_the_tokens_are_gone(authority: Authority, staff: RestClient) -> None:
    api = authority.oauth2()
    row = connect(staff, api)
    tokens, stored_before = secrets_of(row), stored(row)
    answer = staff.send("post", f"{connections_of(api)}/{row.pk}/revoke")
    assert answer.status_code == 200
    assert answer.json()["status"] == "revoked"
    assert answer.json()["message"].startswith("The provider has revoked the grant")
    assert secrets_of(row) == {}
    grant = grant_of(row)
    assert (grant.state, grant.due_at) == (GrantState.ENDED, None)
    assert kinds(row) == ["authorized", "revoked"]
    changes = AuditEvent.objects.get(object_id=row.pk, action="connection.revoked").changes
    assert changes["status"] == ["active", "revoked"]
    for name in ("access_token", "refresh_token"):
        before, after = changes[f"credentials.secret_fingerprints.{name}"]
        assert (before, after) == (stored_before.credential.fingerprints[name], None)
        assert tokens[name] not in str(changes)
    with pytest.raises(ConnectionRevoked):
        services.get_connection(row.pk)
    for name in ("access_token", "refresh_token"):
        assert tokens[name] not in str(list(GrantEvent.objects.values()))
    again = make_connection(api, credentials={"refresh_token": tokens["refresh_token"], "access_token": "at"})
    with pytest.raises(Exception, match="invalid_grant"):
        services.refresh_token(again.pk)


@pytest.mark.parametrize("client_auth", ["basic", "body"])
def test_tokens_travel_in_the_body_alone_the_refresh_token_first(authority: Authority, client_auth: str) -> None:
    with token_server() as server:
        server.answers = [http(200, b""), http(200, b"")]
        row = make_granted(server, oauth2={"revocation_url": f"{server.url}/revoke", "client_auth": client_auth})
        before = secrets_of(row)
        assert revoke(row).was_told is True
    assert [request["token_type_hint"] for request in server.requests] == ["refresh_token", "access_token"]
    assert [request["token"] for request in server.requests] == [before["refresh_token"], before["access_token"]]
    assert ("client_secret" in server.requests[0]) is (client_auth == "body")


def test_a_token_that_the_provider_does_not_know_any_more_is_no_failure(authority: Authority) -> None:
    with token_server() as server:
        server.answers = [http(200, b""), http(400, {"error": "invalid_token"})]
        row = make_granted(server, oauth2={"revocation_url": f"{server.url}/revoke"})
        done = revoke(row)
    assert done.was_told is True
    assert done.message == "The provider has revoked the grant, and the tokens were removed."


@pytest.mark.parametrize(
    "answer",
    [http(503, b"<html>busy</html>"), http(400, {"error": "unsupported_token_type"}), hang_up, http(307, b"")],
)
def test_a_provider_that_fails_is_reported_and_the_tokens_are_removed_nevertheless(
    authority: Authority, answer: Any
) -> None:
    with token_server() as server:
        server.answers = [answer]
        row = make_granted(server, oauth2={"revocation_url": f"{server.url}/revoke"})
        done = revoke(row)
    assert done.was_told is False
    assert "may still hold the grant" in done.message
    assert SECRET not in done.message
    assert stored(row).status == ConnectionStatus.REVOKED
    assert secrets_of(row) == {}
    assert GrantEvent.objects.get(connection=row, kind="revoked").message == done.message


def test_without_an_endpoint_the_message_says_so(authority: Authority, staff: RestClient) -> None:
    api = authority.oauth1()
    done = revoke(connect(staff, api))
    assert done.was_told is None
    assert "end the grant there as well" in done.message
    assert secrets_of(done.connection) == {}


def test_what_a_renewal_brings_meanwhile_is_revoked_as_well(authority: Authority) -> None:
    with token_server() as server:
        row = make_granted(server, oauth2={"revocation_url": f"{server.url}/revoke"})
        before, calls = secrets_of(row), []

        def renew_meanwhile() -> None:
            calls.append(1)
            if len(calls) == 1:
                _store(row, Tokens("at-new", "rt-new"))

        server.delay = renew_meanwhile
        assert revoke(row).was_told is True
    told = [request["token"] for request in server.requests]
    assert told == [before["refresh_token"], before["access_token"], "rt-new", "at-new"]
    assert secrets_of(row) == {}


def _store(row: Any, tokens: Tokens) -> None:
    """Store as another process would: in a thread of the server, with a connection of its own."""
    from django.db import connection as database

    from connections.oauth import grants

    try:
        grants.store_tokens(stored(row), tokens, cause="callback")
    finally:
        database.close()


def test_other_auth_types_and_other_people(authority: Authority) -> None:
    api = make_provider()
    row = make_connection(api)
    path = f"{connections_of(api)}/{row.pk}/revoke"
    viewer = signed_in(make_user(permissions=("connections.view_externalapiconnection",)))
    assert error_of(viewer.send("post", path))[0] == 403
    assert error_of(RestClient().send("post", path))[0] == 401
    changer = signed_in(make_user(permissions=("connections.change_externalapiconnection",)))
    assert error_of(changer.send("post", path)) == (400, "VALIDATION_ERROR")


def test_a_revoked_connection_lives_again_after_new_consent(authority: Authority, staff: RestClient) -> None:
    api = authority.oauth2()
    row = connect(staff, api)
    revoke(row)
    again = connect(staff, api, f"?connection={row.pk}")
    assert (again.pk, again.status) == (row.pk, "active")
    assert grant_of(row).state == GrantState.GOOD
    assert services.test_connection(again).is_ok


def test_it_works_with_a_configuration_that_is_broken(authority: Authority, staff: RestClient) -> None:
    api = authority.oauth2()
    row = connect(staff, api)
    update_external_api(api, {"api_config": {"oauth2": {"client_id": None}}})
    done = revoke(stored(row))
    assert done.was_told is False
    assert secrets_of(row) == {}
