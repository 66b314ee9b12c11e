"""What is edited while the provider is asked, answers that come late or twice, and what a stop leaves behind."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError
from django.db import connection as database
from django.db.models import F
from django.utils import timezone

from connections import services, stopping
from connections.models import ConnectionStatus, ExternalApiConnection, ExternalApiCredential, Grant, GrantState
from connections.oauth import commits, dispatch, grants, leases, refresh, settlement, spool, turns
from connections.oauth import sweep as sweep_module
from connections.oauth.endpoints import Admission, Endpoints
from connections.oauth.recovery import Recovered, recover
from connections.oauth.sweep import sweep
from connections.oauth.tokens import Tokens
from external_apis import audit
from external_apis.errors import ApiManagerError, CallTimeout
from tests.factories import make_provider
from tests.grants import grant_of, kinds, make_granted, oauth2_config, secrets_of, stored
from tests.token_server import TokenServer, http, token_server

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def server(settings: Any, tmp_path: Any) -> Iterator[TokenServer]:
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    settings.SPOOL_DIR = str(tmp_path / "spool")
    with token_server() as started:
        yield started


def make_due(row: ExternalApiConnection) -> None:
    Grant.objects.filter(pk=row.pk).update(due_at=timezone.now())


def elsewhere(work: Callable[[], object]) -> Callable[[], None]:
    """Do it in the thread of the token endpoint, which lets go of its database connection."""

    def carry() -> None:
        work()
        database.close()

    return carry


# --- edits meanwhile --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "active"},
        {"status": "error"},
        {"credentials": {"access_token": "at-pasted"}},
        {"credentials": {"expires_at": "2030-01-01T00:00:00Z"}},
        {"status": "expired"},
    ],
    ids=str,
)
def test_an_edit_that_leaves_the_refresh_token_loses_none(changes: dict[str, Any], server: TokenServer) -> None:
    row = make_granted(server)
    server.delay = elsewhere(lambda: services.update_connection(row, changes))
    refresh.refresh_token(row.pk)
    server.delay = lambda: None
    assert secrets_of(row)["refresh_token"] not in server.used
    assert (grant_of(row).state, grant_of(row).leased_until) == (GrantState.GOOD, None)
    assert kinds(row)[-1] in ("refreshed", "restored")
    refresh.refresh_token(row.pk)
    assert not server.revoked


def test_a_consent_without_refresh_token_loses_none(server: TokenServer) -> None:
    row = make_granted(server)
    tokens = Tokens("at-consented", expires_at=timezone.now() + timedelta(hours=1))
    server.delay = elsewhere(lambda: grants.store_tokens(stored(row), tokens, cause="callback"))
    refresh.refresh_token(row.pk)
    server.delay = lambda: None
    refresh.refresh_token(row.pk)
    assert not server.revoked


def test_an_edit_takes_no_lease_that_somebody_has(server: TokenServer) -> None:
    """Or a second request with the same refresh token would go out."""
    row = make_granted(server)
    assert leases.claim(row.pk)
    services.update_connection(row, {"status": "active", "credentials": {"access_token": "at-pasted"}})
    assert leases.claim(row.pk) is None
    services.update_connection(row, {"credentials": {"refresh_token": "rt-familyN-0"}})
    assert leases.claim(row.pk)


def test_a_late_answer_is_stored_where_nothing_is_newer(server: TokenServer) -> None:
    """The lease ran out and somebody took it, and gave it back without having asked."""
    row = make_granted(server)

    def overtake() -> None:
        Grant.objects.filter(pk=row.pk).update(leased_until=timezone.now() - timedelta(seconds=1))
        lease = leases.claim(row.pk)
        assert lease
        leases.release([lease])

    server.delay = elsewhere(overtake)
    renewed = refresh.refresh_token(row.pk)
    assert renewed.credential.secrets["refresh_token"] == secrets_of(row)["refresh_token"]
    assert secrets_of(row)["refresh_token"] not in server.used
    assert spool.own_spool().overdue(0) == []


# --- exactly once -----------------------------------------------------------------------------------------------------


def test_what_could_not_be_committed_is_stored_once(server: TokenServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a provider that does not rotate, an old answer could be put over newer ones for ever."""
    server.rotates = False
    row = make_granted(server)

    def fail(*_: object) -> frozenset[str]:
        raise OperationalError

    with monkeypatch.context() as patch:
        patch.setattr(turns, "commit", fail)
        with pytest.raises(OperationalError):
            refresh.refresh_token(row.pk)
    (entry,) = spool.own_spool().overdue(0)
    Grant.objects.filter(pk=row.pk).update(leased_until=timezone.now())
    assert recover() == Recovered(applied=1)
    first = secrets_of(row)["access_token"]
    spool.own_spool().append([entry])  # as another process has it, which was not told
    refresh.refresh_token(row.pk)
    assert recover() == Recovered(dropped=2)
    assert secrets_of(row)["access_token"] != first
    assert kinds(row) == ["refreshed", "refreshed"]


def test_a_process_without_sweeps_brings_its_own_answers_in(
    server: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, other = make_granted(server), make_granted(server)

    def fail(*_: object) -> frozenset[str]:
        raise OperationalError

    with monkeypatch.context() as patch:
        patch.setattr(turns, "commit", fail)
        with pytest.raises(OperationalError):
            refresh.refresh_token(lost.pk)
    Grant.objects.filter(pk=lost.pk).update(leased_until=timezone.now())
    monkeypatch.setattr(turns, "LEASE", timedelta())
    refresh.refresh_token(other.pk)
    assert secrets_of(lost)["refresh_token"] not in server.used
    (path,) = Path(str(spool.own_spool()._folder)).glob("*.spool")
    assert path.stat().st_size == 0


# --- one row's trouble ------------------------------------------------------------------------------------------------


def test_one_row_that_is_broken_is_its_own_trouble(server: TokenServer) -> None:
    broken, good = make_granted(server), make_granted(server)
    api = broken.external_api
    type(api).objects.filter(pk=api.pk).update(api_config={**api.api_config, "oauth2": {"token_url": 7}})
    old = make_granted(server)
    ExternalApiCredential.objects.filter(pk=old.pk).update(expires_at="0001-01-01T00:00:00Z")
    server.answers = [http(503, {})]
    sweep()
    sweep()
    assert (stored(broken).status, kinds(broken)) == (ConnectionStatus.ERROR, ["renewal_failing"])
    troubled, fine = sorted((good, old), key=lambda row: grant_of(row).failures, reverse=True)
    assert (grant_of(troubled).failures, grant_of(fine).failures) == (1, 0)
    assert all(grant_of(row).leased_until is None for row in (broken, good, old))


@pytest.mark.parametrize("end", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00", "2001-01-01T00:00:00Z"])
def test_an_end_of_another_age_is_no_end(end: str, server: TokenServer) -> None:
    row = make_granted(server, oauth2={"expires_kind": "date", "expires_path": "end"})
    server.answers = [http(200, {"access_token": "at-1", "refresh_token": "rt-family0-1", "end": end})]
    sweep()
    due_at = grant_of(row).due_at
    assert due_at is not None
    assert due_at > timezone.now() + timedelta(minutes=40)
    make_due(row)
    server.answers = [http(503, {})]
    sweep()
    assert grant_of(row).failures == 1


def test_what_the_database_has_against_one_row_holds_up_no_other(
    server: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = make_granted(server), make_granted(server)
    real = commits.commit

    def commit(settlements: Any, cause: str) -> frozenset[str]:
        if any(item.lease.connection_id == bad.pk for item in settlements):
            raise ValueError("as an answer would that PostgreSQL does not take")
        return real(settlements, cause)

    with monkeypatch.context() as patch:
        patch.setattr(turns, "commit", commit)
        sweep()
    assert (kinds(good), kinds(bad)) == (["refreshed"], [])
    Grant.objects.filter(pk=bad.pk).update(leased_until=timezone.now())
    assert recover().applied == 1


# --- endpoints that hang, and stops -----------------------------------------------------------------------------------


def hang(client: socket.socket) -> None:
    with client:
        time.sleep(1.5)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "CALL_SECONDS", 0.5)
    monkeypatch.setattr(dispatch, "_SILENT_SECONDS", 0.25)


@pytest.mark.usefixtures("impatient")
def test_an_endpoint_that_hangs_starves_no_other_and_ends_no_grant(server: TokenServer) -> None:
    with token_server() as slow:
        slow.answers = [hang] * 100
        api = make_provider(environment="development", slug="slow", api_config=oauth2_config(slow.url))
        hanging = [make_granted(slow, api=api) for _ in range(30)]
        healthy = [make_granted(server) for _ in range(3)]
        started = time.monotonic()
        assert sweep().renewed == 3
        assert time.monotonic() - started < 5
        assert len(slow.requests) <= 6
        assert all(kinds(row) == ["refreshed"] for row in healthy)
        states = [(grant_of(row).state, grant_of(row).failures) for row in hanging]
        assert states.count((GrantState.GOOD, 0)) >= 24
        assert states.count((GrantState.IN_DOUBT, 1)) == len(slow.requests)
        assert all(stored(row).status == ConnectionStatus.ACTIVE for row in hanging)
        assert all((grant_of(row).due_at or timezone.now()) > timezone.now() for row in hanging)
        asked = len(slow.requests)
        for row in hanging:
            make_due(row)
        sweep()
        assert len(slow.requests) == asked


@pytest.mark.usefixtures("impatient")
def test_a_sweep_that_is_told_to_stop_hands_back_what_it_has_not_sent(server: TokenServer) -> None:
    rows = [make_granted(server) for _ in range(20)]
    server.delay = lambda: time.sleep(0.3)
    threading.Timer(0.15, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        swept = sweep()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]
    assert 0 < swept.renewed == len(server.requests) <= 8
    assert not Grant.objects.filter(leased_until__isnull=False).exists()
    assert {state for row in rows if (state := grant_of(row).state)} == {GrantState.GOOD}
    server.delay = lambda: None
    assert sweep().renewed == 20 - swept.renewed


def test_a_worker_that_is_to_stop_tells_those_it_has_forked() -> None:
    child = os.fork()
    if not child:
        with stopping.watched() as is_told:
            until = time.monotonic() + 5
            while not is_told() and time.monotonic() < until:
                time.sleep(0.01)
            os._exit(0 if is_told() else 1)
    stopping.stop()
    try:
        assert os.waitpid(child, 0)[1] == 0
    finally:
        stopping._told.value = 0


def test_an_endpoint_is_left_in_peace_and_tried_by_one() -> None:
    now = [0.0]
    endpoints = Endpoints(lambda: now[0])
    assert [endpoints.admit("a") for _ in range(5)] == [Admission.GO] * 4 + [Admission.WAIT]
    for _ in range(4):
        endpoints.note("a", is_silent=True)
    assert (endpoints.admit("a"), endpoints.admit("b")) == (Admission.NO, Admission.GO)
    now[0] = 61
    assert [endpoints.admit("a") for _ in range(2)] == [Admission.GO, Admission.NO]
    endpoints.note("a", is_silent=True)
    now[0] = 121
    assert endpoints.admit("a") is Admission.NO
    now[0] = 182
    assert endpoints.admit("a") is Admission.GO
    endpoints.note("a", is_silent=False)
    assert [endpoints.admit("a") for _ in range(2)] == [Admission.GO] * 2


# --- what goes on failing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer", [http(404, b"<html>"), http(405, b""), http(401, {"error": "invalid_client"})], ids=["404", "405", "401"]
)
def test_a_lasting_refusal_is_told_at_once(answer: bytes, server: TokenServer) -> None:
    row = make_granted(server, expires_in=200)
    server.answers = [answer] * 3
    for _ in range(3):
        make_due(row)
        sweep()
    assert stored(row).status == ConnectionStatus.ERROR
    assert "No renewal has succeeded since" in (stored(row).error_message or "")
    assert kinds(row) == ["renewal_failing", "refresh_failed", "refresh_failed"]
    assert row.grant_events.filter(mail_due=True).count() == 1
    make_due(row)
    sweep()
    assert (stored(row).status, stored(row).error_message) == (ConnectionStatus.ACTIVE, None)
    assert (kinds(row)[-1], grant_of(row).failing_since, grant_of(row).incident) == ("restored", None, "")


def test_what_goes_on_failing_is_told_when_the_token_has_ended(server: TokenServer) -> None:
    row = make_granted(server, expires_in=200)
    server.answers = [http(503, {})] * 2
    make_due(row)
    sweep()
    assert (stored(row).status, kinds(row)) == (ConnectionStatus.ACTIVE, ["refresh_failed"])
    ExternalApiCredential.objects.filter(pk=row.pk).update(expires_at=timezone.now() - timedelta(days=3))
    make_due(row)
    sweep()
    assert (stored(row).status, kinds(row)) == (ConnectionStatus.ERROR, ["refresh_failed", "renewal_failing"])
    assert grant_of(row).due_at is not None


def test_a_provider_that_is_switched_off_says_so(server: TokenServer) -> None:
    row = make_granted(server, expires_in=-5)
    type(row.external_api).objects.filter(pk=row.external_api_id).update(status="inactive")
    for _ in range(2):
        make_due(row)
        sweep()
    assert (stored(row).status, kinds(row)) == (ConnectionStatus.ERROR, ["renewal_paused"])
    assert "switched off" in (stored(row).error_message or "")


def test_a_definite_503_does_not_use_up_the_second_attempt(server: TokenServer) -> None:
    row = make_granted(server, expires_in=200, oauth2={"rotates_refresh_tokens": True})
    server.answers = [http(502, b""), http(503, b""), http(503, b""), http(504, b"")]
    states = []
    for _ in range(4):
        make_due(row)
        sweep()
        states.append(grant_of(row).state)
    assert states == [GrantState.IN_DOUBT] * 3 + [GrantState.NEEDS_REAUTHORIZATION]
    assert kinds(row) == ["in_doubt", "refresh_failed", "refresh_failed", "needs_reauthorization"]


def test_unknown_rotation_is_tried_again_and_again(server: TokenServer) -> None:
    row = make_granted(server, expires_in=200)
    server.answers = [http(504, b"")] * 4
    for _ in range(4):
        make_due(row)
        sweep()
    assert (grant_of(row).state, stored(row).status) == (GrantState.IN_DOUBT, ConnectionStatus.ACTIVE)
    assert kinds(row) == ["in_doubt"] + ["refresh_failed"] * 3
    make_due(row)
    sweep()
    assert (grant_of(row).state, kinds(row)[-1]) == (GrantState.GOOD, "restored")


def test_a_token_without_end_is_not_called_expired(server: TokenServer) -> None:
    row = make_granted(server, expires_in=None, oauth2={"rotates_refresh_tokens": True})
    server.answers = [http(504, b"")] * 2
    for _ in range(2):
        with pytest.raises(ApiManagerError):
            refresh.refresh_token(row.pk)
    assert (grant_of(row).state, stored(row).status) == (GrantState.NEEDS_REAUTHORIZATION, ConnectionStatus.ERROR)


# --- what cannot be stored, or not even loaded ------------------------------------------------------------------------


@pytest.mark.parametrize("rotates", [None, True])
def test_a_used_up_token_is_not_sent_again_while_its_answer_cannot_be_stored(
    rotates: bool | None, server: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = make_granted(server)
    Grant.objects.update(rotates=rotates)
    make_due(row)

    def refuse(events: Any) -> None:
        raise RuntimeError("the audit log takes nothing")

    with monkeypatch.context() as broken:
        broken.setattr(audit, "store", refuse)
        for _ in range(3):
            sweep(seconds=1)
            Grant.objects.update(leased_until=timezone.now() - timedelta(seconds=1), due_at=timezone.now())
    assert len(server.requests) == 1
    assert recover().applied == 1
    assert (grant_of(row).state, server.revoked) == (GrantState.GOOD, set())
    refresh.refresh_token(row.pk)
    assert len(server.requests) == 2


@pytest.mark.parametrize("how", ["sweep", "one"])
def test_another_machine_does_not_send_a_token_whose_answer_waits_in_a_spool_it_does_not_see(
    how: str, server: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = make_granted(server)
    make_due(row)

    def refuse(events: Any) -> None:
        raise RuntimeError("the audit log takes nothing")

    with monkeypatch.context() as broken:
        broken.setattr(audit, "store", refuse)
        if how == "sweep":
            sweep(seconds=1)
        else:
            with pytest.raises(RuntimeError):
                refresh.refresh_token(row.pk)
    Grant.objects.update(leased_until=F("leased_until") - leases.LEASE)
    assert len(server.requests) == 1
    assert leases.claim(row.pk) is None


@pytest.mark.parametrize("where", ["load", "store"])
def test_what_was_never_sent_is_in_no_doubt_after_errors_of_the_database(
    where: str, server: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [make_granted(server) for _ in range(3)]
    Grant.objects.update(rotates=True)
    for row in rows:
        make_due(row)
        row.external_api.status = "inactive"
        row.external_api.save()

    def fail(*_: Any) -> Any:
        raise OperationalError("canceling statement due to lock timeout")

    for _ in range(2):
        with monkeypatch.context() as broken:
            broken.setattr(dispatch, where, fail)
            with pytest.raises(OperationalError):
                sweep(seconds=1)
        Grant.objects.filter(leased_until__isnull=False).update(leased_until=timezone.now() - timedelta(seconds=1))
    assert server.requests == []
    assert {grant_of(row).state for row in rows} == {GrantState.GOOD}
    assert {row.status for row in ExternalApiConnection.objects.all()} == {ConnectionStatus.ACTIVE}


def test_a_row_that_cannot_be_read_holds_up_no_other(server: TokenServer) -> None:
    broken, sound = make_granted(server), make_granted(server)
    with database.cursor() as cursor:
        cursor.execute(
            f"UPDATE {ExternalApiCredential._meta.db_table} SET expires_at = '10000-01-01' WHERE connection_id = %s",
            [broken.pk],
        )
    make_due(broken)
    make_due(sound)
    sweep(seconds=1)
    assert "refreshed" in kinds(sound)
    assert grant_of(sound).state == GrantState.GOOD


# --- a database that fails while requests are under way ---------------------------------------------------------------


@pytest.mark.parametrize("answer", ["tokens", "busy"])
def test_an_outage_in_the_middle_forgets_no_request_that_was_under_way(
    answer: str, server: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the endpoint would count them for ever, and a provider that has clearly done nothing would be in doubt."""

    def away(*_: object) -> None:
        raise OperationalError

    with token_server() as slow:
        slow.delay = lambda: time.sleep(2.0)
        if answer == "busy":
            slow.answers = [http(503, b"{}")] * 4
        api = make_provider(environment="development", slug="slow", api_config=oauth2_config(slow.url))
        late = [make_granted(slow, api=api) for _ in range(4)]
        make_granted(server)
        with monkeypatch.context() as patch:
            patch.setattr(turns, "commit", away)
            with pytest.raises(OperationalError):
                sweep()
        assert len(slow.requests) == 4
        assert all(known.flying == 0 for known in sweep_module._endpoints._known.values())
        held = [grant_of(row).leased_until is not None for row in late]
        assert held == [answer == "tokens"] * 4  # those lie in the spool


def test_a_lost_answer_among_failures_is_one_incident() -> None:
    """Whoever was told that renewing goes on failing is told that once, whatever each failure is called."""
    now = timezone.now()
    lease = leases.Lease("conn_1", None, 1, GrantState.GOOD, 8, True, None, "renewal_failing", now, False, "")
    facts = settlement.Facts(now - timedelta(hours=1), ConnectionStatus.ERROR, rotates=True, sent_refresh_token="rt")
    lost = CallTimeout("No answer.", may_have_happened=True)
    doubted = settlement.settle(lease, facts, lost, now)
    assert (doubted.state, doubted.incident, doubted.mail_due) == (GrantState.IN_DOUBT, "renewal_failing", False)
