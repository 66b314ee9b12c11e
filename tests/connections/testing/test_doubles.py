"""What users' own tests get: canned answers and the sandbox, through the real client, without a row."""

from __future__ import annotations

from typing import Any

import pytest

from connections.services import get_api_client
from connections.testing import Canned, fake_connection, running_sandbox, sandbox_connection
from external_apis.errors import ConnectFailed, EgressRefused, NotFound, UpstreamClientError, UpstreamUnauthorized

# No test here has the database: asking it is an error.


@pytest.fixture(autouse=True)
def _no_valkey(settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:9/0"


def charge(token: str) -> str:
    """Code of a user: it knows nothing of tests."""
    client = get_api_client("stripe/default")
    return str(client.post("/payment_intents", {"amount": 2000, "source": token}).json()["id"])


def test_the_readmes_example() -> None:
    answers = [{"id": "pi_1"}, Canned(402, json={"error": {"code": "card_declined"}})]
    with fake_connection("stripe/default", answers=answers) as calls:
        assert charge("tok_visa") == "pi_1"
        with pytest.raises(UpstreamClientError) as caught:
            charge("tok_broke")
    assert caught.value.upstream_status == 402
    assert calls[0].method == "POST"
    assert calls[0].path == "/v1/payment_intents"
    assert calls[0].form == {"amount": "2000", "source": "tok_visa"}  # the catalogue knows that Stripe takes forms
    assert calls[0].headers["Authorization"] == "Bearer test-access_token"
    assert len(calls) == 2


def test_retries_happen_and_nobody_waits_for_them() -> None:
    answers = [503, ConnectFailed("No network."), Canned(429, headers={"Retry-After": "60"}), {"ok": True}]
    with fake_connection("acme", answers) as calls:
        assert get_api_client("acme").get("/x", {"a": 1}, deadline_ms=600_000).json() == {"ok": True}
    assert len(calls) == 4
    assert calls.waits[2] == 60
    assert calls[3].query == {"a": "1"}
    assert calls[3].url == "https://api.example.com/x?a=1"


def test_answers_may_be_made_of_what_was_sent() -> None:
    config = {"base_url": "https://acme.test/v2", "auth_type": "hmac"}
    with fake_connection("acme/main", lambda sent: {"echo": sent.json}, config=config) as calls:
        assert get_api_client("acme/main").post("/x", {"b": 2}).json() == {"echo": {"b": 2}}
    assert len(calls[0].headers["X-Signature"]) == 64


def test_one_answer_too_few_fails_the_test() -> None:
    with fake_connection("acme", ["one"]):
        assert get_api_client("acme").get("/a").text == "one"
        with pytest.raises(AssertionError, match="No answer is left for GET /b"):
            get_api_client("acme").get("/b")


def test_pages_and_streams_and_files_work_too() -> None:
    with fake_connection("acme", [{"data": [1, 2]}, {"data": [3]}, b"body"]) as calls:
        client = get_api_client("acme")
        assert list(client.paginate("/items", "page", limit=2)) == [1, 2, 3]
        assert client.put("/file", iter([b"a", b"b"])).content == b"body"
    assert calls[2].body == b"ab"


@pytest.mark.parametrize("auth_type", ["bearer", "api_key", "basic", "hmac", "client_credentials", "none"])
def test_credentials_are_made_up_for_every_auth_type(auth_type: str) -> None:
    config: dict[str, Any] = {"base_url": "https://acme.test", "auth_type": auth_type}
    if auth_type == "client_credentials":
        config[auth_type] = {"token_url": "https://acme.test/token"}
    with fake_connection("acme", [204], config=config):
        assert get_api_client("acme").get("/").status_code == 204


@pytest.mark.django_db
def test_other_references_are_what_they_were() -> None:
    with fake_connection("acme"), pytest.raises(NotFound):
        get_api_client("other")
    with pytest.raises(NotFound):
        get_api_client("acme")


def test_the_sandbox_is_called_over_a_real_socket_without_a_row() -> None:
    with running_sandbox() as sandbox:
        for scheme in ("bearer", "hmac", "oauth1"):
            with sandbox_connection("acme/default", sandbox, scheme):
                assert get_api_client("acme/default").get("/me").json()["scheme"] == scheme
        with sandbox_connection("acme", sandbox, "none"):
            with pytest.raises(UpstreamUnauthorized):
                get_api_client("acme").get("/auth/bearer/me")
            with pytest.raises(EgressRefused):
                get_api_client("acme").get("/redirect?to=http://127.0.0.1:9/")
        with pytest.raises(ValueError, match="bearer"), sandbox_connection("acme", sandbox, "magic"):
            pass
