"""What a first exchange gave outlives an outage of the database and the death of the process."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from connections import connecting, first_grants
from connections.connect_links.invitations import create_link
from connections.connecting import Wish
from connections.models import ConnectLink, ExternalApiConnection, OAuthFlow
from connections.oauth import first_answers, spool
from external_apis.errors import GrantKept
from tests.authority import Authority, authorize, come_back, consent, query_of
from tests.connections.oauth.test_device import Waiting, device_answer
from tests.connections.oauth.test_link_flows import press
from tests.grants import kinds, secrets_of
from tests.rest import RestClient
from tests.token_server import TokenServer, http, token_server

pytestmark = pytest.mark.django_db(transaction=True)

TOKENS = {"access_token": "at-first", "refresh_token": "rt-first", "expires_in": 3600}


class Outage:
    """The database of this thread goes away while the provider answers, and comes back in the end."""

    def __init__(self) -> None:
        self._at = connections["default"].settings_dict
        self._host = self._at["HOST"]

    def answer(self, client: socket.socket) -> None:
        self._at["HOST"] = "/nonexistent"
        client.sendall(http(200, TOKENS))

    def end(self) -> None:
        self._at["HOST"] = self._host


@pytest.fixture
def outage() -> Iterator[Outage]:
    made = Outage()
    yield made
    made.end()


@pytest.fixture
def server() -> Iterator[TokenServer]:
    with token_server() as started:
        yield started


def spooled(settings: Any) -> int:
    return sum(path.stat().st_size for path in (Path(settings.SPOOL_DIR) / "first").glob("*.spool"))


def test_a_callback_that_loses_the_database(
    authority: Authority, staff: RestClient, server: TokenServer, outage: Outage, settings: Any
) -> None:
    api = authority.oauth2(token_url=f"{server.url}/token")
    location = consent(authorize(staff, api))
    server.answers = [outage.answer]
    answer = come_back(staff, location)
    assert answer.status_code == 503
    page = answer.content.decode()
    assert "is connected soon" in page
    assert "Nothing has to be repeated" in page
    assert "begin again" not in page
    outage.end()
    assert not ExternalApiConnection.objects.exists()
    assert [first_grants.recover(), first_grants.recover()] == [1, 0]
    row = ExternalApiConnection.objects.get()
    assert secrets_of(row) == {"access_token": "at-first", "refresh_token": "rt-first"}
    assert kinds(row) == ["authorized"]
    assert OAuthFlow.objects.get().made_connection == row
    assert spooled(settings) == 0


def test_an_answer_of_a_process_that_died_is_stored_by_the_next(
    authority: Authority, staff: RestClient, server: TokenServer, outage: Outage, settings: Any
) -> None:
    api = authority.oauth2(token_url=f"{server.url}/token")
    server.answers = [outage.answer]
    come_back(staff, consent(authorize(staff, api)))
    outage.end()
    (path,) = (Path(settings.SPOOL_DIR) / "first").glob("*.spool")
    assert b"at-first" not in path.read_bytes()
    assert path.stat().st_mode & 0o077 == 0
    assert Path(settings.SPOOL_DIR).stat().st_mode & 0o077 == 0
    spool.own_spool(path.parent).abandon()
    assert first_grants.recover() == 1
    assert not path.exists()


def test_a_link_counts_from_when_it_was_used(authority: Authority, server: TokenServer, outage: Outage) -> None:
    api = authority.oauth2(token_url=f"{server.url}/token")
    link, browser = create_link(api, {}), RestClient()
    server.answers = [outage.answer]
    assert come_back(browser, consent(press(browser, link))).status_code == 503
    outage.end()
    soon = timezone.now() + timedelta(milliseconds=1)
    ConnectLink.objects.filter(pk=link.pk).update(expires_at=soon)
    assert first_grants.recover() == 1
    link.refresh_from_db()
    assert link.made_connection == ExternalApiConnection.objects.get()
    assert link.used_at is not None
    assert link.used_at < soon


def test_a_link_that_somebody_else_has_used_meanwhile(
    authority: Authority, server: TokenServer, outage: Outage, settings: Any
) -> None:
    api = authority.oauth2(token_url=f"{server.url}/token")
    link, browser = create_link(api, {}), RestClient()
    server.answers = [outage.answer]
    come_back(browser, consent(press(browser, link)))
    outage.end()
    ConnectLink.objects.filter(pk=link.pk).update(used_at=timezone.now())
    assert first_grants.recover() == 0
    assert not ExternalApiConnection.objects.exists()
    assert "used" in OAuthFlow.objects.get().error
    assert spooled(settings) == 0


def test_a_device_code_that_loses_the_database(authority: Authority, server: TokenServer, outage: Outage) -> None:
    api = authority.oauth2(device_authorization_url=f"{server.url}/device", token_url=f"{server.url}/token")
    server.answers = [device_answer(), outage.answer]
    flow, code = connecting.begin_device(Wish(api, "terminal:test"))
    waiting = Waiting()
    with pytest.raises(GrantKept):
        connecting.finish_device(flow, code, sleep=waiting.sleep, clock=waiting.clock)
    outage.end()
    assert first_grants.recover() == 1
    assert kinds(ExternalApiConnection.objects.get()) == ["authorized"]


def test_a_sweep_that_is_quicker_makes_the_one_connection(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """It finds the answer in the spool while whoever wrote it there is about to store it."""
    keep, swept = first_answers.keep, list[int]()

    def be_overtaken(*arguments: Any) -> Any:
        entry = keep(*arguments)
        swept.append(first_grants.recover())
        return entry

    monkeypatch.setattr(first_answers, "keep", be_overtaken)
    brought = query_of(consent(connecting.begin_flow(Wish(authority.oauth2(), "terminal:test"))))
    stored: list[ExternalApiConnection] = []
    flow = connecting.find_flow(brought)
    made = connecting.finish_flow(flow, brought, ["terminal:test"], on_stored=stored.append)
    assert swept == [1]
    assert stored == []
    row = ExternalApiConnection.objects.get()
    assert made == row
    assert kinds(row) == ["authorized"]
    assert OAuthFlow.objects.get().made_connection == row
    assert spooled(settings) == 0
    assert first_grants.recover() == 0


def test_without_a_folder_nothing_is_promised(
    authority: Authority, staff: RestClient, server: TokenServer, outage: Outage, settings: Any
) -> None:
    settings.SPOOL_DIR = ""
    api = authority.oauth2(token_url=f"{server.url}/token")
    server.answers = [outage.answer]
    location = consent(authorize(staff, api))
    staff.raise_request_exception = False
    assert come_back(staff, location).status_code == 503
    outage.end()
    assert first_grants.recover() == 0


def test_what_is_stored_leaves_nothing_behind(authority: Authority, staff: RestClient, settings: Any) -> None:
    api = authority.oauth2()
    come_back(staff, consent(authorize(staff, api)))
    assert spooled(settings) == 0
    assert first_grants.recover() == 0
    assert ExternalApiConnection.objects.count() == 1
