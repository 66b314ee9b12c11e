"""Connecting from a terminal: by device code, and by a browser that the terminal waits for."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from io import StringIO
from typing import Any

import pytest
import requests
from django.core.management import CommandError, call_command
from django.db import connection as database
from django.utils import timezone

from connections import connecting
from connections.connecting import Wish
from connections.management.commands import connect as command
from connections.models import ExternalApiConnection, OAuthFlow
from external_apis.errors import FlowRefused, GrantRefused, InvalidInput, TokenEndpointFailed
from external_apis.models import AuditEvent
from tests.authority import Authority, consent, hand_over
from tests.factories import make_tenant
from tests.grants import kinds, secrets_of
from tests.rest import RestClient
from tests.token_server import TokenServer, http, token_server

pytestmark = pytest.mark.django_db(transaction=True)


class Waiting:
    """A clock that sleeping moves; what was slept is kept, and something may happen meanwhile."""

    def __init__(self, meanwhile: Callable[[int], None] = lambda count: None) -> None:
        self.now, self.meanwhile = timezone.now(), meanwhile
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += timedelta(seconds=seconds)
        self.meanwhile(len(self.slept))

    def clock(self) -> datetime:
        return self.now


def device_answer(**more: Any) -> bytes:
    answer = {"device_code": "dc-1", "user_code": "AB-CD", "verification_uri": "https://x.example/d", "expires_in": 60}
    return http(200, {**answer, **more})


def with_device(server: TokenServer, authority: Authority, *answers: bytes, **more: Any) -> Any:
    api = authority.oauth2(device_authorization_url=f"{server.url}/device", token_url=f"{server.url}/token")
    server.answers = [device_answer(**more), *answers]
    return connecting.begin_device(Wish(api, "terminal:test"))


def confirm(url: str) -> None:
    """Press the button of the sandbox's page."""
    page, _, query = url.partition("?")
    with requests.Session() as session:
        session.trust_env = False
        fields = {"user_code": query.removeprefix("user_code="), "decision": "approve"}
        answer = session.post(page, data=fields, timeout=10)
    assert answer.status_code == 200, answer.text


def test_a_code_is_confirmed_elsewhere(authority: Authority) -> None:
    api = authority.oauth2(
        device_authorization_url=f"{authority.url}/oauth/device_authorization",
        client={"device_interval_seconds": 0},
    )
    flow, code = connecting.begin_device(Wish(api, "terminal:test"))
    waiting = Waiting(lambda count: confirm(code.complete_uri) if count == 1 else None)
    row = connecting.finish_device(flow, code, sleep=waiting.sleep, clock=waiting.clock)
    assert set(secrets_of(row)) == {"access_token", "refresh_token"}
    assert kinds(row) == ["authorized"]
    flow.refresh_from_db()
    assert dict(flow.secrets) == {}


def test_it_asks_at_the_providers_pace(authority: Authority) -> None:
    pending, slow = http(400, {"error": "authorization_pending"}), http(400, {"error": "slow_down"})
    with token_server() as server:
        answers = [pending, slow, pending, http(503, b"busy"), http(200, {"access_token": "at-1"})]
        flow, code = with_device(server, authority, *answers, interval=2)
        waiting = Waiting()
        row = connecting.finish_device(flow, code, sleep=waiting.sleep, clock=waiting.clock)
    assert waiting.slept == [2, 2, 7, 7, 12]
    assert row.credential.scopes == ["read", "write"]


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (http(400, {"error": "access_denied"}), FlowRefused, "denied"),
        (http(400, {"error": "expired_token"}), FlowRefused, "in time"),
        (http(401, {"error": "invalid_client"}), GrantRefused, "invalid_client"),
    ],
)
def test_a_no_ends_it(authority: Authority, answer: bytes, error: type[Exception], words: str) -> None:
    with token_server() as server:
        flow, code = with_device(server, authority, answer)
        waiting = Waiting()
        with pytest.raises(error, match=words):
            connecting.finish_device(flow, code, sleep=waiting.sleep, clock=waiting.clock)
    assert not ExternalApiConnection.objects.exists()
    flow.refresh_from_db()
    assert words in flow.error


def test_nobody_confirms(authority: Authority) -> None:
    with token_server() as server:
        pending = [http(400, {"error": "authorization_pending"})] * 20
        flow, code = with_device(server, authority, *pending)
        waiting = Waiting()
        with pytest.raises(FlowRefused, match="in time"):
            connecting.finish_device(flow, code, sleep=waiting.sleep, clock=waiting.clock)
    assert 55 <= sum(waiting.slept) <= 60


@pytest.mark.parametrize(
    "odd",
    [
        {"device_code": ""},
        {"device_code": 5},
        {"user_code": None},
        {"verification_uri": "javascript:alert(1)"},
        {"verification_uri": "\u001b]0;x\u0007"},
        {"verification_uri": {"a": 1}},
    ],
)
def test_answers_that_are_no_device_code(authority: Authority, odd: dict[str, Any]) -> None:
    with token_server() as server, pytest.raises(TokenEndpointFailed):
        with_device(server, authority, **odd)
    assert not OAuthFlow.objects.exists()


def test_what_the_terminal_shows_does_nothing_to_it(authority: Authority) -> None:
    odd = {"user_code": "AB\u001b[2JCD", "interval": "soon", "expires_in": -1, "verification_uri_complete": "ftp://x"}
    with token_server() as server:
        _, code = with_device(server, authority, **odd)
    assert code.user_code == "AB [2JCD"
    assert (code.interval_seconds, code.complete_uri) == (5.0, "")


def test_a_provider_without_device_codes(authority: Authority) -> None:
    with pytest.raises(InvalidInput, match="device_authorization_url"):
        connecting.begin_device(Wish(authority.oauth2(), "terminal:test"))


# --- the command ----------------------------------------------------------------------------------------------------


class Page(StringIO):
    """Calls ``on_url`` with each address that is written, in a thread of its own, as a person would."""

    def __init__(self, on_url: Callable[[str], None]) -> None:
        super().__init__()
        self._on_url = on_url

    def write(self, text: str) -> int:
        for word in text.split():
            if word.startswith("http"):
                threading.Thread(target=self._go, args=(word,), daemon=True).start()
        return super().write(text)

    def _go(self, url: str) -> None:
        try:
            self._on_url(url)
        finally:
            database.close()


def test_the_command_waits_for_a_browser(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_POLL_SECONDS", 0.05)
    api, tenant = authority.oauth2(), make_tenant()
    out = Page(lambda url: hand_over(RestClient(), consent(url)))
    call_command("connect", api.slug, tenant=tenant.slug, name="From a shell", stdout=out)
    row = ExternalApiConnection.objects.get(external_api=api)
    assert (row.tenant, row.connection_name) == (tenant, "From a shell")
    assert f"Connected: {api.slug}/default ({row.pk})" in out.getvalue()
    again = Page(lambda url: hand_over(RestClient(), consent(url)))
    call_command("connect", api.slug, connection=row.pk, stdout=again)
    assert kinds(row) == ["authorized", "reauthorized"]
    events = AuditEvent.objects.filter(object_id=row.pk).order_by("pk")
    assert [event.action.partition(".")[2] for event in events] == ["created", "authorized", "reauthorized"]
    assert all(event.actor.startswith("command:connect") for event in events)


def test_the_command_shows_a_code(authority: Authority) -> None:
    api = authority.oauth2(
        device_authorization_url=f"{authority.url}/oauth/device_authorization", client={"device_interval_seconds": 0}
    )
    done = threading.Lock()

    def approve(url: str) -> None:
        if "user_code" in url and done.acquire(blocking=False):
            confirm(url)

    out = Page(approve)
    call_command("connect", api.slug, stdout=out)
    assert ExternalApiConnection.objects.filter(external_api=api).count() == 1


def test_a_refusal_ends_the_command(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_POLL_SECONDS", 0.05)
    api = authority.oauth2(client={"consent": "deny"})
    with pytest.raises(CommandError, match="access_denied"):
        call_command("connect", api.slug, stdout=Page(lambda url: hand_over(RestClient(), consent(url))))


def test_ctrl_c_is_a_clean_end(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    def press(seconds: float) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("time.sleep", press)
    # Whoever runs the tests in the background has them ignore Ctrl-C.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(CommandError, match="Given up") as caught:
            call_command("connect", authority.oauth2().slug, stdout=StringIO())
    finally:
        signal.signal(signal.SIGINT, handler)
    assert caught.value.returncode == 130


@pytest.mark.parametrize("wrong", [{"tenant": "none"}, {"user": "none"}, {"connection": "none"}, {"partner": "none"}])
def test_names_that_are_wrong(authority: Authority, wrong: dict[str, str]) -> None:
    with pytest.raises(CommandError, match="not found"):
        call_command("connect", authority.oauth2().slug, stdout=StringIO(), **wrong)
