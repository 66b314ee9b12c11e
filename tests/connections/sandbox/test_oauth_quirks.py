"""The authorization server's bad manners, its control, and the callbacks that it knows from the command line."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from connections.sandbox import credentials
from connections.sandbox.oauth.clients import FAILURES
from connections.sandbox.oauth.clients import Client as Registered
from connections.sandbox.oauth.memory import FAMILIES, Memory
from connections.sandbox.oauth.tokens import issue, read
from tests.connections.sandbox.conftest import Client
from tests.sandbox import Sandbox, start_sandbox, stop_sandbox

SECRET = "the secret of a quirky client"
_numbers = itertools.count(1)


class Machine:
    """A client that asks for tokens of its own."""

    def __init__(self, client: Client) -> None:
        self.client, self.id = client, f"quirky-{next(_numbers)}"
        self.set(client_secret=SECRET)

    def set(self, **settings: Any) -> None:
        self.client.sandbox.register(self.id, **settings)

    def ask(self, **options: Any) -> requests.Response:
        fields = {"grant_type": "client_credentials", "client_id": self.id, "client_secret": SECRET}
        return self.client.post("/oauth/token", data=fields, **options)

    def counts(self) -> dict[str, int]:
        return self.client.sandbox.oauth_counts(self.id)


@pytest.fixture
def machine(client: Client) -> Machine:
    return Machine(client)


@pytest.mark.parametrize("style", ["timestamp", "timestamp_text", "milliseconds", "date", "text", "none"])
def test_expiry_in_every_shape(machine: Machine, style: str) -> None:
    machine.set(expiry_style=style, access_seconds=3600)
    answer = machine.ask().json()
    now = int(time.time())
    if style == "text":
        assert answer["expires_in"] == "3600"
    elif style == "none":
        assert not {"expires_in", "expires_at"} & set(answer)
    elif style == "date":
        assert answer["expires_at"].endswith("Z")
    else:
        found = int(answer["expires_at"]) / (1000 if style == "milliseconds" else 1)
        assert abs(found - now - 3600) < 5
        assert isinstance(answer["expires_at"], str) == (style == "timestamp_text")


def test_answers_in_other_shapes(machine: Machine) -> None:
    machine.set(answer_style="slack", scope_separator=",")
    answer = machine.ask().json()
    assert answer["ok"] is True
    assert answer["authed_user"]["access_token"]
    assert answer["authed_user"]["scope"] == "read,write"
    machine.set(answer_style="nested", shows_scope=False)
    token = machine.ask().json()["data"]["token"]
    assert "scope" not in token
    assert token["access_token"]
    machine.set(answer_style="slack", grants=[])
    refused = machine.ask()
    assert (refused.status_code, refused.json()) == (200, {"ok": False, "error": "unauthorized_client"})


def test_fewer_scopes_than_asked_for(machine: Machine) -> None:
    machine.set(granted_scopes=["read"])
    assert machine.ask().json()["scope"] == "read"


@pytest.mark.parametrize("failure", [name for name in FAILURES if "hang" not in name])
def test_failures_are_counted_down(machine: Machine, failure: str) -> None:
    machine.set(failure=failure, failures_left=1, failure_status=503, retry_after="7")
    if "close" in failure:
        with pytest.raises(requests.ConnectionError):
            machine.ask()
    else:
        answer = machine.ask()
        assert answer.status_code == {"status": 503, "redirect": 307}.get(failure, 200)
        if failure in {"status", "error_200"}:
            assert answer.json()["error"] == "temporarily_unavailable"
            assert answer.headers["Retry-After"] == "7"
        elif failure != "redirect":
            with pytest.raises(ValueError):
                answer.json()
    assert machine.ask().status_code == 200
    counts = machine.counts()
    # A lost answer is one that took effect.
    assert (counts["token_requests"], counts["answered"]) == (2, 2 if failure.startswith("lost") else 1)


@pytest.mark.parametrize(("failure", "answered"), [("hang", 0), ("lost_hang", 1)])
def test_an_answer_that_never_comes(machine: Machine, failure: str, answered: int) -> None:
    machine.set(failure=failure)
    with pytest.raises(requests.Timeout):
        machine.client.session.post(
            f"{machine.client.sandbox.url}/oauth/token",
            data={"grant_type": "client_credentials", "client_id": machine.id, "client_secret": SECRET},
            timeout=0.2,
        )
    assert machine.counts().get("answered", 0) == answered


def test_a_slow_token_endpoint_delays_its_own_client_alone(machine: Machine) -> None:
    machine.set(delay_seconds=0.3)
    other = Machine(machine.client)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(machine.ask)
        began = time.monotonic()
        assert other.ask().status_code == 200
        assert time.monotonic() - began < 0.25
        assert slow.result().elapsed.total_seconds() >= 0.3


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"client_id": "x", "unknown": 1}, "unknown_setting"),
        ({"client_id": "x", "rotates": "yes"}, "bad_setting"),
        ({"client_id": "x", "access_seconds": -1}, "bad_setting"),
        ({"client_id": "x", "access_seconds": True}, "bad_setting"),
        ({"client_id": "x", "delay_seconds": 1e9}, "bad_setting"),
        ({"client_id": "x", "failure": "nice"}, "bad_setting"),
        ({"client_id": "x", "redirect_uris": ["u"] * 51}, "bad_setting"),
        ({"client_id": "x", "rsa_key": {"n": "1"}}, "bad_setting"),
        ({"client_id": "x" * 201}, "bad_body"),
        ({}, "bad_body"),
        ([], "bad_body"),
    ],
)
def test_the_control_takes_nothing_that_cannot_be(client: Client, body: Any, code: str) -> None:
    answer = client.post("/_sandbox/oauth", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert client.get("/_sandbox/oauth?client_id=x").status_code == 404


def test_the_control_never_shows_a_secret(machine: Machine) -> None:
    answer = machine.client.post("/_sandbox/oauth", json={"client_id": machine.id, "client_secret": SECRET})
    assert SECRET not in answer.text


def test_the_memory_is_bounded_and_a_forgotten_family_is_taken_up_again() -> None:
    memory = Memory()
    first = memory.start_family(Registered("x"), ["read"])
    first.generation = 3
    token = issue("refresh", first, 60)
    for _ in range(FAMILIES + 5):
        memory.start_family(Registered("x"), [])
    assert len(memory.families) == FAMILIES
    assert first.id not in memory.families
    found = read(token, "refresh")
    assert found is not None
    assert memory.family_of(found).generation == 3


@pytest.fixture(scope="module")
def at_home() -> Iterator[Sandbox]:
    """A sandbox that knows where the product listens, as `manage.py up` starts it."""
    started = start_sandbox("--callback-origin", "http://127.0.0.1:8000", "--callback-origin", "http://localhost:8000")
    yield started
    stop_sandbox(started)


@pytest.mark.parametrize(
    ("callback", "status"),
    [
        ("http://127.0.0.1:8000/admin/external-apis/ext_api_sandbox_signin_oauth2/oauth/callback", 200),
        ("http://localhost:8000/admin/external-apis/ext_api_sandbox_signin_oauth2/oauth/callback", 200),
        ("http://localhost:8000/api/admin/oauth/sandbox-signin-oauth2/callback", 200),
        ("http://localhost:8001/api/admin/oauth/sandbox-signin-oauth2/callback", 400),
        ("http://127.0.0.1:8000/admin/external-apis/ext_api_sandbox_signin_oauth1/oauth/callback", 400),
    ],
)
def test_the_callbacks_of_both_hosts_are_registered(at_home: Sandbox, callback: str, status: int) -> None:
    asked = {
        "client_id": credentials.SIGNIN_CLIENT_ID,
        "redirect_uri": callback,
        "response_type": "code",
        "state": "s",
        "code_challenge": "c" * 43,
        "code_challenge_method": "S256",
    }
    answer = requests.get(f"{at_home.url}/oauth/authorize", params=asked, timeout=10, allow_redirects=False)
    assert answer.status_code == status


def test_tokens_outlive_a_restart(at_home: Sandbox, client: Client) -> None:
    """Those of a newcomer who stops and starts `make run`; the two processes share nothing."""
    fields = {
        "grant_type": "client_credentials",
        "client_id": credentials.CLIENT_CREDENTIALS_ID,
        "client_secret": credentials.CLIENT_CREDENTIALS_SECRET,
    }
    token = requests.post(f"{at_home.url}/oauth/token", data=fields, timeout=10).json()["access_token"]
    assert client.get("/auth/client-credentials/me", headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_the_server_describes_itself(client: Client) -> None:
    found = client.get("/.well-known/oauth-authorization-server").json()
    assert found["issuer"] == client.sandbox.url
    assert client.post(found["token_endpoint"].removeprefix(client.sandbox.url)).status_code == 400
