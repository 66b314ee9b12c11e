"""What answers mean by the provider's own rules, and credentials that are renewed when it asks for that."""

from __future__ import annotations

import json
import threading
from typing import Any
from uuid import uuid4

import pytest

from connections.client import ApiClient, Event, Target
from external_apis.errors import (
    ApiManagerError,
    ConnectionExpired,
    UpstreamClientError,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamServerError,
    UpstreamUnauthorized,
)
from tests.connections.client.conftest import FakeTime, MakeClient, make_target
from tests.sandbox import Sandbox
from tests.sockets import OK, answering, read_head, serve


def answer(body: Any = "", status: str = "200 OK", **headers: str) -> bytes:
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(data)}\r\n{''.join(lines)}\r\n".encode() + data


def call(answers: list[bytes], rules: list[dict[str, Any]], fake_time: FakeTime, method: str = "GET") -> Any:
    with serve(answering(*answers)) as port:
        config = {"base_url": f"http://127.0.0.1:{port}", "auth_type": "none", "response_rules": rules}
        return ApiClient(make_target(config, {}), clock=fake_time.clock).request(method, "/x")


SLACK = {"action": "fail", "body_path": "ok", "body_equals": False, "error_message": "not ok"}
REFUSED = answer({"ok": False, "error": {"code": "E7", "tags": ["a", "busy"]}})


@pytest.mark.usefixtures("allow_loopback")
class TestRules:
    def test_an_error_inside_a_200_fails(self, fake_time: FakeTime) -> None:
        with pytest.raises(UpstreamClientError) as caught:
            call([REFUSED], [SLACK], fake_time)
        assert caught.value.message == "acme answered with status 200: not ok"
        assert caught.value.attempts == 1
        assert caught.value.may_have_happened
        assert b"E7" in caught.value.body

    @pytest.mark.parametrize(
        "condition",
        [
            {"http_codes": [200]},
            {"header_name": "x-outcome"},
            {"header_name": "X-Outcome", "header_value": "try again"},
            {"body_path": "error.code"},
            {"body_path": "error.code", "body_equals": "E7"},
            {"body_path": "error.tags.1", "body_contains": "us"},
            {"body_path": "error", "body_contains": '"code": "E7"'},
            {"body_contains": "E7"},
            {"http_codes": [200, 202], "header_name": "X-Outcome", "body_path": "ok", "body_equals": False},
        ],
    )
    def test_a_condition_that_holds_has_the_call_tried_again(
        self, fake_time: FakeTime, condition: dict[str, Any]
    ) -> None:
        first = answer({"ok": False, "error": {"code": "E7", "tags": ["a", "busy"]}}, X_Outcome="Try Again")
        assert call([first, answer({"ok": True}, "201 Made")], [{"action": "retry", **condition}], fake_time).ok
        assert fake_time.slept == [1.5]

    @pytest.mark.parametrize(
        "condition",
        [
            {"http_codes": [202]},
            {"header_name": "x-other"},
            {"header_name": "X-Outcome", "header_value": "done"},
            {"body_path": "error.missing"},
            {"body_path": "count", "body_equals": True},
            {"body_path": "count", "body_equals": "1"},
            {"body_path": "nothing"},
            {"body_contains": "E8"},
            {"http_codes": [200], "body_contains": "E8"},
        ],
    )
    def test_a_condition_that_does_not_hold_changes_nothing(
        self, fake_time: FakeTime, condition: dict[str, Any]
    ) -> None:
        first = answer({"count": 1, "nothing": None, "error": "E7"}, X_Outcome="Try Again")
        assert call([first], [{"action": "fail", **condition}], fake_time).json()["count"] == 1

    @pytest.mark.parametrize("body", ["", "{", "[" * 100_000, "null", "\u00ff", '"ok"', "[1]"])
    def test_a_body_that_is_no_object_matches_no_path(self, fake_time: FakeTime, body: str) -> None:
        assert call([answer(body)], [SLACK], fake_time).status_code == 200

    def test_the_first_rule_that_matches_decides(self, fake_time: FakeTime) -> None:
        rules: list[dict[str, Any]] = [
            {"action": "success", "body_contains": "E7"},
            {"action": "fail", "http_codes": [200]},
        ]
        assert call([REFUSED], rules, fake_time).json()["ok"] is False

    def test_an_error_status_may_be_a_success(self, fake_time: FakeTime) -> None:
        response = call([answer("gone", "404 No")], [{"action": "success", "http_codes": [404]}], fake_time)
        assert (response.status_code, response.text) == (404, "gone")

    def test_a_5xx_may_be_final(self, fake_time: FakeTime) -> None:
        with pytest.raises(UpstreamServerError) as caught:
            call([answer("", "501 No")], [{"action": "fail", "http_codes": [501]}], fake_time)
        assert (caught.value.attempts, caught.value.is_transient) == (1, False)

    def test_rate_limited_waits_as_told_and_repeats_even_a_post(self, fake_time: FakeTime) -> None:
        rules = [{"action": "rate_limited", "http_codes": [403], "body_contains": "slow"}]
        first = answer("slow down", "403 No", Retry_After="7")
        assert call([first, OK], rules, fake_time, "POST").text == "ok"
        assert fake_time.slept == [7]

    def test_rate_limited_is_said_when_it_does_not_end(self, fake_time: FakeTime) -> None:
        rules = [{"action": "rate_limited", "http_codes": [200]}]
        with pytest.raises(UpstreamRateLimited) as caught:
            call([OK] * 5, rules, fake_time, "POST")
        assert caught.value.attempts == 5

    def test_a_post_is_not_repeated_for_an_error_inside_a_200(self, fake_time: FakeTime) -> None:
        with pytest.raises(UpstreamError) as caught:
            call([REFUSED, OK], [{"action": "retry", "body_contains": "E7"}], fake_time, "POST")
        assert (caught.value.attempts, caught.value.may_have_happened) == (1, True)

    def test_a_streamed_answer_that_is_refused_is_let_go(self) -> None:
        left = threading.Event()

        def play(client: Any) -> None:
            read_head(client)
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\nX-Outcome: no\r\n\r\nabc")
            client.settimeout(5)
            if not client.recv(1):
                left.set()

        with serve(play) as port:
            rules = [{"action": "fail", "header_name": "X-Outcome"}]
            config = {"base_url": f"http://127.0.0.1:{port}", "auth_type": "none", "response_rules": rules}
            with pytest.raises(UpstreamClientError):
                ApiClient(make_target(config, {})).get("/x", stream=True)
            assert left.wait(5)


# --- renewal ---


class Renewals:
    """A refresh that gives out a token, and counts."""

    def __init__(self, target: Target, token: str) -> None:
        self.count = 0
        self._target, self._token = target, token

    def __call__(self) -> Target:
        self.count += 1
        kept = self._target
        return Target(
            kept.provider_id, kept.provider_slug, kept.connection_id, kept.connection_slug, kept.config,
            {"access_token": self._token},
        )  # fmt: skip


def renewing(make_client: MakeClient, token: str, **options: Any) -> tuple[ApiClient, Renewals]:
    right = make_client("oauth2").target
    stale = make_client("oauth2", credentials={"access_token": "a-token-that-has-expired"}, **options)
    renewals = Renewals(stale.target, token or right.credentials["access_token"])
    return ApiClient(stale.target, clock=stale._clock, on_event=stale.on_event, refresh=renewals), renewals


def test_a_refused_token_is_renewed_once_and_the_call_repeated(
    make_client: MakeClient, events: list[Event], fake_time: FakeTime
) -> None:
    client, renewals = renewing(make_client, "", retry_config={"max_retries": 0})
    assert client.post("/echo", {"a": 1}).status_code == 200
    assert client.get("/me").status_code == 200
    assert renewals.count == 1
    assert fake_time.slept == []
    assert [event.kind for event in events][:6] == ["attempt", "answer", "failure", "refresh", "attempt", "answer"]


def test_a_token_that_is_refused_again_is_an_error(make_client: MakeClient, sandbox: Sandbox) -> None:
    client, renewals = renewing(make_client, "another-wrong-token")
    key = uuid4().hex
    with pytest.raises(UpstreamUnauthorized) as caught:
        client.get("/me", {"key": key})
    assert (renewals.count, sandbox.count(key), caught.value.attempts) == (1, 2, 2)


def test_without_a_refresh_a_401_stands(make_client: MakeClient) -> None:
    with pytest.raises(UpstreamUnauthorized) as caught:
        make_client("oauth2", credentials={"access_token": "wrong"}).get("/me")
    assert caught.value.attempts == 1


def test_a_rule_may_ask_for_a_renewal(make_client: MakeClient) -> None:
    rules = [{"action": "refresh_then_retry", "body_path": "scheme", "body_equals": "none"}]
    stale = make_client("none", response_rules=rules)
    renewals = Renewals(stale.target, "unused")
    with pytest.raises(UpstreamUnauthorized, match="status 200"):
        ApiClient(stale.target, refresh=renewals).get("/me")
    assert renewals.count == 1


def test_a_rule_may_forbid_a_renewal(make_client: MakeClient) -> None:
    client, renewals = renewing(make_client, "", response_rules=[{"action": "fail", "http_codes": [401]}])
    with pytest.raises(UpstreamUnauthorized):
        client.get("/me")
    assert renewals.count == 0


def test_a_renewal_that_fails_is_the_calls_error(make_client: MakeClient) -> None:
    stale = make_client("oauth2", credentials={"access_token": "wrong"})

    def refuse() -> Target:
        raise ConnectionExpired("Connection has expired. Please re-authenticate.")

    with pytest.raises(ConnectionExpired):
        ApiClient(stale.target, refresh=refuse).get("/me")


def test_threads_that_meet_one_refusal_renew_once(make_client: MakeClient) -> None:
    client, renewals = renewing(make_client, "")
    wrong: list[ApiManagerError] = []

    def run() -> None:
        try:
            client.get("/me")
        except ApiManagerError as error:
            wrong.append(error)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert renewals.count == 1


@pytest.mark.usefixtures("allow_loopback")
def test_a_stranger_that_refuses_renews_nothing() -> None:
    """A 401 from where a redirect led says nothing of a credential that was not sent there."""
    heads: list[bytes] = []

    def refuse(client: Any) -> None:
        heads.append(read_head(client))
        client.sendall(answer("", "401 No"))

    with (
        serve(refuse) as abroad,
        serve(answering(answer("", "302 Go", Location=f"http://127.0.0.1:{abroad}/"))) as port,
    ):
        target = make_target({"base_url": f"http://127.0.0.1:{port}", "auth_type": "bearer"}, {"access_token": "tok-7"})
        renewals = Renewals(target, "unused")
        with pytest.raises(UpstreamUnauthorized):
            ApiClient(target, refresh=renewals).get("/")
    assert renewals.count == 0
    assert b"tok-7" not in heads[0]
