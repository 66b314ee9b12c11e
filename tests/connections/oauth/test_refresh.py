"""`refresh_token`, `ensure_fresh` and the sweep against a token endpoint over real sockets."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest
from django.db import connection as database
from django.db import connections as databases
from django.db import transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from connections import services
from connections.models import ConnectionStatus, ExternalApiConnection, ExternalApiCredential, Grant, GrantState
from connections.oauth import grants, leases, refresh
from connections.oauth.sweep import sweep
from connections.oauth.tokens import Tokens
from external_apis import changes
from external_apis.errors import (
    ApiManagerError,
    ConnectionExpired,
    ConnectionRevoked,
    GrantRefused,
    InvalidInput,
    NotFound,
    TokenEndpointFailed,
)
from external_apis.json_output import timestamp
from external_apis.models import AuditEvent
from external_apis.providers import update_external_api
from tests.exsvc import SERVICES, of_tenant
from tests.factories import make_connection, make_provider, make_tenant
from tests.grants import grant_of, kinds, make_granted, secrets_of, stored
from tests.rest import connections_of, error_of, with_key
from tests.token_server import TokenServer, hang_up, http, token_server

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def server(settings: Any, tmp_path: Any) -> Iterator[TokenServer]:
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    settings.SPOOL_DIR = str(tmp_path / "spool")
    with token_server() as started:
        yield started


def make_due(row: ExternalApiConnection) -> None:
    Grant.objects.filter(pk=row.pk).update(due_at=timezone.now())


def meanwhile(row: ExternalApiConnection, changes: dict[str, Any]) -> Callable[[], None]:
    """Change the connection while the provider is asked, in the thread of the token endpoint."""

    def change() -> None:
        services.update_connection(row, changes)
        database.close()

    return change


def make_almost_ended(row: ExternalApiConnection) -> None:
    now = timezone.now()
    ExternalApiCredential.objects.filter(pk=row.pk).update(
        expires_at=now + timedelta(seconds=200), updated_at=now - timedelta(hours=1)
    )


def machine_config(url: str) -> dict[str, Any]:
    block = {"client_id": "c", "client_secret": "s-of-the-tests", "token_url": f"{url}/token"}
    return {"base_url": url, "auth_type": "client_credentials", "client_credentials": block}


def expire(row: ExternalApiConnection) -> None:
    ExternalApiCredential.objects.filter(pk=row.pk).update(expires_at=timezone.now() - timedelta(seconds=1))


# --- asked for ------------------------------------------------------------------------------------------------------


def test_a_refresh_stores_what_the_provider_gave(server: TokenServer) -> None:
    row = make_granted(server)
    before = secrets_of(row)
    renewed = services.refresh_token(row.pk)
    after = secrets_of(row)
    assert renewed.credential.secrets["access_token"] == after["access_token"] != before["access_token"]
    assert after["refresh_token"] != before["refresh_token"]
    grant = grant_of(row)
    assert (grant.state, grant.rotates, grant.failures, grant.leased_until) == (GrantState.GOOD, True, 0, None)
    assert grant.due_at is not None
    assert timezone.now() + timedelta(seconds=2800) < grant.due_at < timezone.now() + timedelta(seconds=3310)
    assert kinds(row) == ["refreshed"]
    assert ExternalApiCredential.history.filter(connection_id=row.pk).count() == 2


def test_what_is_not_to_be_refreshed_says_so_in_the_seeds_words(server: TokenServer) -> None:
    with pytest.raises(InvalidInput, match=r"^Token refresh only supported for OAuth 2\.0$"):
        refresh.refresh_token(make_connection().pk)
    row = make_granted(server, credentials={"refresh_token": None})
    with pytest.raises(InvalidInput, match=r"^No refresh token available$"):
        refresh.refresh_token(row.pk)
    revoked = make_granted(server)
    services.update_connection(revoked, {"status": "revoked"})
    with pytest.raises(ConnectionRevoked):
        refresh.refresh_token(revoked.pk)
    with pytest.raises(NotFound):
        refresh.refresh_token("conn_none")
    assert server.requests == []


def test_an_expired_connection_is_just_what_it_is_for(server: TokenServer) -> None:
    row = make_granted(server, expires_in=-60)
    ExternalApiConnection.objects.filter(pk=row.pk).update(status=ConnectionStatus.EXPIRED)
    assert refresh.refresh_token(row.pk).status == ConnectionStatus.ACTIVE
    event = AuditEvent.objects.get(object_id=row.pk, action="connection.restored")
    assert event.changes == {"status": ["expired", "active"]}


def test_a_missing_refresh_token_in_the_answer_keeps_the_old_one(server: TokenServer) -> None:
    server.rotates = False
    row = make_granted(server)
    before = secrets_of(row)
    refresh.refresh_token(row.pk)
    assert secrets_of(row)["refresh_token"] == before["refresh_token"]
    assert grant_of(row).rotates is False


@pytest.mark.parametrize(
    "answer",
    [
        http(200, b"<html>maintenance</html>"),
        http(200, {"error": "server_error", "access_token": "at-evil"}),
        http(200, {"access_token": {"nested": 1}}),
        http(200, b"\xff\x00garbage"),
        http(500, {"error": "x"}),
        http(503, b"", "Retry-After: 120"),
        http(302, b"", "Location: http://127.0.0.1:1/elsewhere"),
    ],
)
def test_garbage_changes_nothing_and_is_tried_again(server: TokenServer, answer: bytes) -> None:
    row = make_granted(server)
    before = secrets_of(row)
    server.answers = [answer]
    with pytest.raises(ApiManagerError):
        refresh.refresh_token(row.pk)
    grant, now = grant_of(row), timezone.now()
    assert secrets_of(row) == before
    assert (grant.state, grant.failures, stored(row).status) == (GrantState.GOOD, 1, ConnectionStatus.ACTIVE)
    assert grant.due_at is not None
    pause = (grant.due_at - now).total_seconds()
    assert (110 < pause <= 120) if b"Retry-After" in answer else (20 < pause <= 30)
    assert kinds(row) == ["refresh_failed"]
    make_due(row)
    sweep()
    assert secrets_of(row)["refresh_token"] != before["refresh_token"]
    assert grant_of(row).failures == 0


def test_a_refused_grant_expires_and_says_so_in_the_providers_words(server: TokenServer) -> None:
    row = make_granted(server)
    server.revoked.add(secrets_of(row)["refresh_token"].split("-")[1])
    with pytest.raises(ConnectionExpired, match="That token was used before"):
        refresh.refresh_token(row.pk)
    now = stored(row)
    assert now.status == ConnectionStatus.EXPIRED
    assert "That token was used before" in (now.error_message or "")
    assert (grant_of(row).state, grant_of(row).due_at) == (GrantState.ENDED, None)
    assert kinds(row) == ["expired"]
    with pytest.raises(ConnectionExpired):
        services.get_api_client(row.pk)
    with pytest.raises(ConnectionExpired):
        refresh.refresh_token(row.pk)
    assert len(server.requests) == 1


def test_a_refused_client_is_an_error_that_a_corrected_configuration_mends(server: TokenServer) -> None:
    row = make_granted(server)
    server.answers = [http(401, {"error": "invalid_client"})]
    with pytest.raises(GrantRefused):
        refresh.refresh_token(row.pk)
    assert (stored(row).status, grant_of(row).state) == (ConnectionStatus.ERROR, GrantState.GOOD)
    refresh.refresh_token(row.pk)
    assert (stored(row).status, stored(row).error_message) == (ConnectionStatus.ACTIVE, None)


# --- doubt ------------------------------------------------------------------------------------------------------------


def test_a_lost_answer_is_a_doubt_tried_once_more_and_then_given_up(server: TokenServer) -> None:
    row = make_granted(server, expires_in=200, oauth2={"rotates_refresh_tokens": True})
    server.answers = [hang_up, hang_up]
    with pytest.raises(ApiManagerError):
        refresh.refresh_token(row.pk)
    assert (grant_of(row).state, stored(row).status) == (GrantState.IN_DOUBT, ConnectionStatus.ACTIVE)
    assert grant_of(row).due_at > timezone.now() + timedelta(seconds=290)  # type: ignore[operator]
    with pytest.raises(ApiManagerError):  # neither use nor a 401 takes the one attempt before its time
        refresh.replace_token(row.pk, "at-old")
    assert len(server.requests) == 1
    make_due(row)
    sweep()
    grant, now = grant_of(row), stored(row)
    assert (grant.state, now.status) == (GrantState.NEEDS_REAUTHORIZATION, ConnectionStatus.ERROR)
    assert "reconnect" in (now.error_message or "")
    assert grant.due_at == now.credential.expires_at
    assert services.get_api_client(row.pk).target.credentials["access_token"] == "at-old"
    expire(row)
    make_due(row)
    sweep()
    assert (grant_of(row).due_at, stored(row).status) == (None, ConnectionStatus.EXPIRED)
    assert kinds(row) == ["in_doubt", "needs_reauthorization", "expired"]
    with pytest.raises(ConnectionExpired):
        services.get_api_client(row.pk)
    assert len(server.requests) == 2
    assert services.refresh_token(row.pk).status == ConnectionStatus.ACTIVE  # somebody may try all the same
    assert (grant_of(row).state, kinds(row)[-1]) == (GrantState.GOOD, "restored")


def test_the_second_attempt_of_a_doubtful_renewal_may_mend_it(server: TokenServer) -> None:
    row = make_granted(server)
    server.answers = [hang_up]
    with pytest.raises(ApiManagerError):
        refresh.refresh_token(row.pk)
    make_due(row)
    sweep()
    assert (grant_of(row).state, grant_of(row).incident) == (GrantState.GOOD, "")
    assert kinds(row) == ["in_doubt", "restored"]


def test_a_lost_answer_of_a_provider_that_does_not_rotate_is_no_doubt(server: TokenServer) -> None:
    server.rotates = False
    row = make_granted(server)
    refresh.refresh_token(row.pk)
    server.answers = [hang_up]
    with pytest.raises(ApiManagerError):
        refresh.refresh_token(row.pk)
    assert (grant_of(row).state, grant_of(row).failures) == (GrantState.GOOD, 1)


def test_nothing_sent_is_no_doubt(server: TokenServer) -> None:
    row = make_granted(server, oauth2={"token_url": "http://127.0.0.1:9/token"})
    with pytest.raises(ApiManagerError):
        refresh.refresh_token(row.pk)
    assert (grant_of(row).state, grant_of(row).failures) == (GrantState.GOOD, 1)


def test_a_lease_that_ran_out_is_a_doubt(server: TokenServer) -> None:
    row = make_granted(server)
    assert leases.claim(row.pk)
    assert leases.claim(row.pk) is None
    assert leases.claim_due(10) == []
    Grant.objects.filter(pk=row.pk).update(leased_until=timezone.now() - timedelta(seconds=1))
    sweep()
    assert kinds(row) == ["in_doubt", "restored"]


def test_a_holder_that_was_overtaken_stores_nothing(server: TokenServer) -> None:
    """What somebody pastes while the provider is asked stays."""
    row = make_granted(server)
    server.delay = meanwhile(row, {"credentials": {"access_token": "at-pasted", "refresh_token": "rt-familyX-0"}})
    renewed = refresh.refresh_token(row.pk)
    assert secrets_of(row) == {"access_token": "at-pasted", "refresh_token": "rt-familyX-0"}
    assert renewed.credential.secrets["access_token"] == "at-pasted"


def test_another_secret_that_is_changed_meanwhile_stays_changed(server: TokenServer) -> None:
    row = make_granted(server, credentials={"additional_data": {"region": "eu"}})
    server.delay = meanwhile(row, {"credentials": {"additional_data": {"region": "us"}}})
    refresh.refresh_token(row.pk)
    after = secrets_of(row)
    assert json.loads(after["additional_data"]) == {"region": "us"}
    assert after["access_token"] != "at-old"


def test_a_connection_revoked_meanwhile_stays_revoked(server: TokenServer) -> None:
    row = make_granted(server)
    server.delay = meanwhile(row, {"status": "revoked"})
    with pytest.raises(ConnectionRevoked):
        refresh.refresh_token(row.pk)
    assert stored(row).status == ConnectionStatus.REVOKED


# --- the sweep --------------------------------------------------------------------------------------------------------


def test_the_sweep_takes_what_is_due_and_nothing_else(server: TokenServer) -> None:
    due, later = make_granted(server), make_granted(server, expires_in=7200)
    assert sweep().renewed == 1
    assert kinds(due) == ["refreshed"]
    assert kinds(later) == []


def test_a_token_that_nothing_renews_is_warned_of_and_ends_on_time(server: TokenServer) -> None:
    row = make_granted(server, expires_in=7200, credentials={"refresh_token": None})
    warned_at = grant_of(row).due_at
    assert warned_at is not None
    assert abs((warned_at - timezone.now()).total_seconds() - 3600) < 5
    make_due(row)
    sweep()
    assert (kinds(row), grant_of(row).due_at) == (["expiring_soon"], stored(row).credential.expires_at)
    assert stored(row).status == ConnectionStatus.ACTIVE
    expire(row)
    make_due(row)
    sweep()
    assert (kinds(row), stored(row).status) == (["expiring_soon", "expired"], ConnectionStatus.EXPIRED)
    assert server.requests == []


def test_deleted_and_inactive_ones_are_left_alone_and_come_back(server: TokenServer) -> None:
    deleted, inactive = make_granted(server), make_granted(server)
    shut_out = make_granted(server, tenant=(tenant := make_tenant()))
    services.delete_connection(deleted)
    update_external_api(inactive.external_api, {"status": "inactive"})
    tenant.is_active = False
    tenant.save()
    sweep()
    assert server.requests == []
    assert grant_of(deleted).due_at is None
    assert grant_of(inactive).due_at is not None
    assert grant_of(shut_out).due_at is not None
    services.restore_connection(stored(deleted))
    make_due(deleted)
    update_external_api(inactive.external_api, {"status": "active"})
    make_due(inactive)
    assert sweep().renewed == 2


def test_two_sweeps_at_once_take_different_ones(server: TokenServer) -> None:
    rows = [make_granted(server) for _ in range(6)]
    server.delay = lambda: time.sleep(0.05)
    results: list[int] = []

    def work() -> None:
        try:
            results.append(sweep(batch_size=2).renewed)
        finally:
            database.close()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sum(results), len(server.requests)) == (6, 6)
    assert all(kinds(row) == ["refreshed"] for row in rows)


def test_one_that_fails_does_not_hold_up_the_others(server: TokenServer) -> None:
    broken = make_granted(server, oauth2={"token_url": "http://127.0.0.1:9/token"})
    good = make_granted(server, tenant=make_tenant())
    swept = sweep()
    assert (swept.renewed, swept.failed) == (1, 1)
    assert (kinds(broken), kinds(good)) == (["refresh_failed"], ["refreshed"])


def test_queries_of_a_batch_do_not_grow_with_it(server: TokenServer) -> None:
    def count(number: int) -> int:
        for _ in range(number):
            make_granted(server, api=api)
        with CaptureQueriesContext(database) as queries:
            assert sweep().renewed == number
        return len(queries)

    api = make_granted(server).external_api
    sweep()
    few = count(2)
    assert few - 3 <= count(8) <= few + 3  # a data key is looked at again every second; eight are claimed at first


# --- on use -----------------------------------------------------------------------------------------------------------


def test_a_token_inside_its_margin_is_renewed_before_use(server: TokenServer) -> None:
    row = make_granted(server, expires_in=7200)
    ExternalApiCredential.objects.filter(pk=row.pk).update(expires_at=timezone.now() + timedelta(seconds=200))
    ExternalApiCredential.objects.filter(pk=row.pk).update(updated_at=timezone.now() - timedelta(hours=1))
    assert services.get_api_client(row.pk).target.credentials["access_token"].startswith("at-")
    assert secrets_of(row)["access_token"] != "at-old"
    assert len(server.requests) == 1
    services.get_api_client(row.pk)
    assert len(server.requests) == 1


def test_while_the_renewal_fails_a_token_that_lives_is_used_and_the_provider_left_in_peace(server: TokenServer) -> None:
    row = make_granted(server, expires_in=7200)
    make_almost_ended(row)
    server.answers = [http(500, {})] * 9
    for _ in range(5):
        assert services.get_api_client(row.pk).target.credentials["access_token"] == "at-old"
    assert len(server.requests) == 1
    expire(row)
    changes.forget_everything()
    with pytest.raises(TokenEndpointFailed) as caught:
        services.get_api_client(row.pk)
    assert caught.value.retry_after_seconds is not None
    assert len(server.requests) == 1


def test_whoever_reads_a_connection_gets_a_token_that_is_fresh(server: TokenServer) -> None:
    row = make_granted(server)
    make_almost_ended(row)
    opened = services.get_connection(row.pk)
    assert opened.credentials["access_token"] == secrets_of(row)["access_token"] != "at-old"
    assert opened.expires_at == stored(row).credential.expires_at
    server.answers = [http(500, {})]
    living = make_granted(server)
    make_almost_ended(living)
    assert services.get_connection(living.pk).credentials["access_token"] == "at-old"
    expire(living)
    with pytest.raises(TokenEndpointFailed):
        services.get_connection(living.pk)
    hopeless = make_granted(server, expires_in=-1, credentials={"refresh_token": None})
    with pytest.raises(ConnectionExpired):
        services.get_connection(hopeless.pk)


def test_a_service_reads_credentials_that_are_fresh(server: TokenServer) -> None:
    tenant = make_tenant()
    row = make_granted(server, tenant=tenant, slug="default")
    make_almost_ended(row)
    client, url = of_tenant(tenant), f"{SERVICES}/{row.external_api_id}/credentials"
    read = client.get(url).json()
    assert read["credentials"] == {**secrets_of(row), "token_type": "Bearer"}
    assert read["credentials"]["access_token"] != "at-old"
    expires_at = stored(row).credential.expires_at
    assert expires_at is not None
    assert read["expires_at"] == timestamp(expires_at)
    server.answers = [http(500, {})]
    make_almost_ended(row)
    assert client.get(url).json()["credentials"] == read["credentials"]
    expire(row)
    assert client.get(url).status_code in (502, 503)
    assert len(server.requests) == 2


def test_a_service_whose_first_token_cannot_be_fetched_still_shows_what_is_stored(server: TokenServer) -> None:
    tenant = make_tenant()
    api = make_provider(environment="development", api_config=machine_config(server.url))
    make_connection(api, tenant=tenant, slug="default", credentials={"client_id": "c", "client_secret": "s-of-tests"})
    client, url = of_tenant(tenant), f"{SERVICES}/{api.pk}/credentials"
    server.answers = [http(500, {})]
    assert client.get(url).json()["credentials"] == {"client_id": "c", "client_secret": "s-of-tests"}


@pytest.mark.parametrize("status", [200, 500])
def test_a_call_that_is_tried_hides_no_need_of_authorization(server: TokenServer, status: int) -> None:
    row = make_granted(server, expires_in=7200)
    ExternalApiConnection.objects.filter(pk=row.pk).update(status=ConnectionStatus.ERROR, error_message="Reconnect.")
    Grant.objects.filter(pk=row.pk).update(state=GrantState.NEEDS_REAUTHORIZATION)
    server.answers = [http(status, {})]
    tried = stored(row)
    assert services.test_connection(tried).is_ok is (status == 200)
    assert tried.error_message == stored(row).error_message == "Reconnect."
    Grant.objects.filter(pk=row.pk).update(state=GrantState.GOOD)
    server.answers = [http(200, {})]
    assert services.test_connection(stored(row)).is_ok
    assert stored(row).error_message is None


def test_client_credentials_are_fetched_on_first_use_and_kept(server: TokenServer) -> None:
    api = make_provider(environment="development", api_config=machine_config(server.url))
    row = make_connection(api, credentials={})
    first = services.get_api_client(row.pk).target.credentials["access_token"]
    assert (
        services.get_api_client(row.pk).target.credentials["access_token"] == first == secrets_of(row)["access_token"]
    )
    assert [request["grant_type"] for request in server.requests] == ["client_credentials"]
    make_due(row)
    sweep()
    assert secrets_of(row)["access_token"] != first
    server.answers = [hang_up]
    make_due(row)
    sweep()
    assert grant_of(row).state == GrantState.GOOD


def test_a_pasted_token_of_client_credentials_is_used_as_it_is(server: TokenServer) -> None:
    config = {
        "base_url": server.url,
        "auth_type": "client_credentials",
        "client_credentials": {"token_url": f"{server.url}/token"},
    }
    row = make_connection(
        make_provider(environment="development", api_config=config), credentials={"access_token": "at-pasted"}
    )
    assert services.get_api_client(row.pk).target.credentials["access_token"] == "at-pasted"
    assert server.requests == []


def test_a_refused_token_is_replaced_and_the_call_sent_again(server: TokenServer) -> None:
    row = make_granted(server, expires_in=7200)
    server.answers = [http(401, {"error": "expired"}), None, http(200, {"fine": True})]
    client = services.get_api_client(row.pk)
    assert client.post("/orders", {"n": 1}).json() == {"fine": True}
    assert len(server.requests) == 3
    assert client.target.credentials["access_token"] == secrets_of(row)["access_token"] != "at-old"


def test_a_sign_of_expiry_inside_a_200_has_the_token_replaced(server: TokenServer) -> None:
    row = make_granted(server, expires_in=7200)
    rule = {"action": "refresh_then_retry", "body_path": "error", "body_equals": "token_expired"}
    update_external_api(row.external_api, {"api_config": {"response_rules": [rule]}})
    server.answers = [http(200, {"error": "token_expired"}), None, http(200, {"fine": True})]
    assert services.get_api_client(row.pk).get("/orders").json() == {"fine": True}
    assert secrets_of(row)["access_token"] != "at-old"


def test_a_token_that_is_refused_when_new_is_not_replaced_for_ever(server: TokenServer) -> None:
    row = make_granted(server, expires_in=7200)
    server.answers = [http(401, {}), None, http(401, {})]
    with pytest.raises(ApiManagerError) as caught:
        services.get_api_client(row.pk).get("/orders")
    assert caught.value.code == "UPSTREAM_UNAUTHORIZED"
    assert len(server.requests) == 3


def test_a_stale_refusal_takes_the_token_that_is_there_already(server: TokenServer) -> None:
    row = make_granted(server, expires_in=7200)
    refresh.refresh_token(row.pk)
    assert refresh.replace_token(row.pk, "at-old").credential.secrets["access_token"] != "at-old"
    assert len(server.requests) == 1


def test_a_transaction_that_is_rolled_back_loses_no_token(server: TokenServer) -> None:
    row = make_granted(server)
    with transaction.atomic():
        services.refresh_token(row.pk)
        transaction.set_rollback(True)
    assert secrets_of(row)["access_token"] != "at-old"


def test_no_database_connection_is_held_while_the_provider_is_asked(server: TokenServer) -> None:
    row = make_granted(server)
    open_during: list[bool] = []
    mine = databases["default"]
    server.delay = lambda: open_during.append(mine.connection is not None)
    services.refresh_token(row.pk)
    make_due(row)
    sweep()
    assert open_during == [False, False]


def test_what_is_stored_by_consent_ends_every_doubt(server: TokenServer) -> None:
    row = make_granted(server)
    server.answers = [hang_up]
    with pytest.raises(ApiManagerError):
        refresh.refresh_token(row.pk)
    tokens = Tokens(
        "at-new", "rt-familyY-0", expires_at=timezone.now() + timedelta(hours=1), provider_data={"team": "T"}
    )
    grants.store_tokens(stored(row), tokens, cause="callback", requested_scopes=["a"])
    grant, now = grant_of(row), stored(row)
    assert (grant.state, grant.failures, grant.incident, grant.requested_scopes) == (GrantState.GOOD, 0, "", ["a"])
    assert (now.status, now.provider_data) == (ConnectionStatus.ACTIVE, {"team": "T"})
    assert kinds(row) == ["in_doubt", "reauthorized"]
    assert AuditEvent.objects.filter(object_id=row.pk, action="connection.reauthorized").exists()


# --- REST -------------------------------------------------------------------------------------------------------------


def test_the_rest_route_renews_and_shows_the_grant(server: TokenServer) -> None:
    row = make_granted(server)
    address = f"{connections_of(row.external_api)}/{row.pk}"
    answer = with_key().send("post", f"{address}/refresh")
    assert answer.status_code == 200, answer.content
    assert answer.json()["grant"]["state"] == "good"
    assert b"at-" not in answer.content
    server.answers = [http(500, {})]
    assert error_of(with_key().send("post", f"{address}/refresh")) == (502, "TOKEN_ENDPOINT_FAILED")
    facts = with_key().get(address).json()["grant"]
    assert facts["failures"] == 1
    assert facts["next_attempt_at"] > facts["renewed_at"]


# --- rows of before ---------------------------------------------------------------------------------------------------


def test_connections_of_before_get_a_grant(server: TokenServer, monkeypatch: pytest.MonkeyPatch) -> None:
    migration = import_module("connections.migrations.0004_grants_of_existing_connections")
    monkeypatch.setattr(migration, "_BATCH", 2)
    rows = [make_granted(server, expires_in=7200) for _ in range(5)]
    ExternalApiConnection.objects.filter(pk=rows[0].pk).update(status=ConnectionStatus.EXPIRED)
    other = make_connection()
    Grant.objects.all().delete()
    with database.schema_editor() as editor:
        migration.make_grants(None, editor)
        migration.make_grants(None, editor)
    assert set(Grant.objects.values_list("pk", flat=True)) == {row.pk for row in rows}
    assert not Grant.objects.filter(pk=other.pk).exists()
    assert (grant_of(rows[0]).state, grant_of(rows[0]).due_at) == (GrantState.ENDED, None)
    due_at = grant_of(rows[1]).due_at
    expires_at = stored(rows[1]).credential.expires_at
    assert expires_at is not None
    assert due_at == expires_at - timedelta(minutes=5)
    make_due(rows[1])
    assert sweep().renewed == 1


def test_grants_that_are_there_and_ids_in_any_order_leave_no_connection_without(
    server: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    migration = import_module("connections.migrations.0004_grants_of_existing_connections")
    monkeypatch.setattr(migration, "_BATCH", 2)
    names = ("a", "b_1", "b1", "9", "a_9", "z", "_a", "c", "a9")
    wanted = {make_granted(server, id=f"conn_{name}").pk for name in names}
    Grant.objects.exclude(pk__in=["conn_a", "conn_a_9", "conn_b1"]).delete()
    with database.schema_editor() as editor:
        migration.make_grants(None, editor)
    assert set(Grant.objects.values_list("pk", flat=True)) == wanted


def test_a_row_without_grant_gets_one_when_it_is_renewed(server: TokenServer) -> None:
    row = make_granted(server)
    Grant.objects.all().delete()
    refresh.refresh_token(row.pk)
    assert grant_of(row).rotates is True
