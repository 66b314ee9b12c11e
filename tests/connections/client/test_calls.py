"""A call from beginning to end: the answer's face, errors, retries, limits and time."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from uuid import uuid4

import pytest
import requests

from connections.client import ApiClient, Clock, Event, RetryPolicy, slots
from connections.wire.retry_after import parse_retry_after
from external_apis.errors import (
    BadAnswer,
    CallTimeout,
    ConnectFailed,
    EgressRefused,
    InvalidInput,
    RateLimited,
    UpstreamClientError,
    UpstreamRateLimited,
    UpstreamServerError,
)
from tests.connections.client.conftest import FakeTime, MakeClient, make_target
from tests.sandbox import Sandbox
from tests.sockets import OK, answering, read_head, serve

NEVER = {"max_retries": 0, "backoff_ms": 1}


@pytest.fixture
def key() -> str:
    return uuid4().hex


def test_the_answer_is_a_response_of_requests(make_client: MakeClient, sandbox: Sandbox) -> None:
    response = make_client("bearer").get("/balance", {"a": "b c"})
    assert isinstance(response, requests.Response)
    assert response.ok
    assert response.json()["object"] == "balance"
    assert response.headers["content-type"].startswith("application/json")
    assert response.url == f"{sandbox.url}/auth/bearer/balance?a=b%20c"
    assert b"".join(response.iter_content(10)) == response.content == response.raw.read()
    assert response.request.method == "GET"
    response.raise_for_status()
    response.close()


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete"])
def test_every_method_is_sent(make_client: MakeClient, method: str) -> None:
    assert getattr(make_client(), method)("/echo").json()["method"] == method.upper()


def test_a_head_and_an_empty_answer_have_no_body(make_client: MakeClient) -> None:
    client = make_client()
    assert client.request("HEAD", "/balance").content == b""
    assert client.delete("/status/204").content == b""


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, UpstreamClientError), (404, UpstreamClientError), (429, UpstreamRateLimited), (500, UpstreamServerError),
     (503, UpstreamServerError), (599, UpstreamServerError)],
)  # fmt: skip
def test_an_error_status_is_an_error(make_client: MakeClient, status: int, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        make_client(retry_config=NEVER).get(f"/status/{status}?secret=hunter22")
    error: Any = caught.value
    assert error.message == f"acme answered with status {status}."
    assert (error.upstream_status, error.attempts) == (status, 1)
    assert error.request_id.startswith("req_")
    assert b'"error"' in error.body


def test_the_error_holds_a_bounded_body_and_the_upstreams_request_id(allow_loopback: None) -> None:
    body = b"x" * 1_000_000
    answer = b"HTTP/1.1 422 No\r\nX-Request-Id: up_1\r\nContent-Length: 1000000\r\n\r\n" + body
    with serve(answering(answer)) as port, pytest.raises(UpstreamClientError) as caught:
        client_of(port).get("/x")
    assert caught.value.upstream_request_id == "up_1"
    assert len(caught.value.body) == 16 * 1024


def client_of(port: int, fake_time: FakeTime | None = None, **config: Any) -> ApiClient:
    target = make_target({"base_url": f"http://127.0.0.1:{port}", "auth_type": "none", **config}, {})
    return ApiClient(target, clock=fake_time.clock if fake_time else None)


# --- retry ---


def test_seed_004s_waits(make_client: MakeClient, fake_time: FakeTime, sandbox: Sandbox, key: str) -> None:
    with pytest.raises(UpstreamServerError) as caught:
        make_client().get("/status/500", {"key": key})
    assert fake_time.slept == [1.5, 2.5, 4.5, 8.5]
    assert caught.value.attempts == 5 == sandbox.count(key)


def test_waits_are_capped() -> None:
    error = ConnectFailed("x")
    waits = [RetryPolicy(max_attempts=99).wait_seconds(error, n, is_repeatable=True, chance=1.0) for n in (1, 5, 6, 90)]
    assert waits == [2, 17, 30, 30]


def test_a_flaky_provider_is_asked_again(make_client: MakeClient, fake_time: FakeTime, key: str) -> None:
    client = make_client(retry_config={"max_retries": 2, "backoff_ms": 100})
    assert client.get("/flaky", {"key": key, "fails": 2, "status": 500}).json()["attempt"] == 3
    assert fake_time.slept == [pytest.approx(0.15), pytest.approx(0.25)]


@pytest.mark.parametrize(("max_retries", "attempts"), [(0, 1), (3, 4)])
def test_max_retries_are_those_after_the_first_attempt(
    make_client: MakeClient, sandbox: Sandbox, key: str, max_retries: int, attempts: int
) -> None:
    with pytest.raises(UpstreamServerError):
        make_client(retry_config={"max_retries": max_retries, "backoff_ms": 1}).get("/status/502", {"key": key})
    assert sandbox.count(key) == attempts


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 422, 425])
def test_no_4xx_but_429_is_tried_again(make_client: MakeClient, sandbox: Sandbox, key: str, status: int) -> None:
    with pytest.raises(UpstreamClientError):
        make_client().get(f"/status/{status}", {"key": key})
    assert sandbox.count(key) == 1


@pytest.mark.parametrize("form", ["", "date"])
def test_retry_after_is_waited_for(make_client: MakeClient, fake_time: FakeTime, key: str, form: str) -> None:
    fake_time.at = time.time()
    path = f"/flaky?key={key}&fails=1&status=429&retry_after=20&format={form}"
    assert make_client().get(path).json()["attempt"] == 2
    (wait,) = fake_time.slept
    assert 19 < wait < 22


def test_a_retry_after_beyond_the_deadline_is_left_to_the_caller(make_client: MakeClient, fake_time: FakeTime) -> None:
    with pytest.raises(UpstreamRateLimited) as caught:
        make_client().get("/status/429?retry_after=3600")
    assert caught.value.retry_after_seconds == 3600
    assert fake_time.slept == []


@pytest.mark.parametrize("value", ["", "soon", "-1", "1.5", "9" * 20, "٣", "Wed, 99 Foo 2026"])
def test_a_malformed_retry_after_is_none(value: str) -> None:
    assert parse_retry_after(value, 0) is None


def test_a_date_in_the_past_means_at_once() -> None:
    assert parse_retry_after(format_datetime(datetime(2020, 1, 1, tzinfo=UTC), usegmt=True), 1_700_000_000) == 0


@pytest.mark.parametrize(("status", "attempts"), [(429, 2), (503, 2), (500, 1), (502, 1)])
def test_a_post_is_repeated_only_after_a_refusal(
    make_client: MakeClient, sandbox: Sandbox, key: str, status: int, attempts: int
) -> None:
    path = f"/flaky?key={key}&fails=1&status={status}"
    if attempts == 1:
        with pytest.raises(UpstreamServerError) as caught:
            make_client().post(path)
        assert caught.value.may_have_happened
    else:
        assert make_client().post(path).json()["attempt"] == attempts
    assert sandbox.count(key) == attempts


def test_a_post_with_an_idempotency_key_is_repeated(make_client: MakeClient, sandbox: Sandbox, key: str) -> None:
    make_client().post(f"/flaky?key={key}&fails=1&status=500", headers={"idempotency-key": "k1"})
    assert sandbox.count(key) == 2


@pytest.mark.parametrize(("method", "attempts"), [("POST", 1), ("PATCH", 1), ("GET", 2), ("PUT", 2), ("DELETE", 2)])
def test_what_breaks_off_after_sending_is_repeated_only_if_harmless(
    make_client: MakeClient, sandbox: Sandbox, key: str, method: str, attempts: int
) -> None:
    path = f"/flaky?key={key}&fails=1&how=close"
    if attempts == 1:
        with pytest.raises(BadAnswer) as caught:
            make_client().request(method, path)
        assert caught.value.may_have_happened
    else:
        assert make_client().request(method, path).json()["attempt"] == attempts
    assert sandbox.count(key) == attempts


def test_a_post_that_timed_out_may_have_happened_and_is_not_repeated(
    make_client: MakeClient, sandbox: Sandbox, key: str
) -> None:
    with pytest.raises(CallTimeout) as caught:
        make_client().post(f"/hang?key={key}", {"a": 1}, timeout_ms=200)
    assert caught.value.may_have_happened
    assert caught.value.details["may_have_happened"] is True
    assert sandbox.count(key) == 1


def test_nothing_was_sent_where_nobody_listens(fake_time: FakeTime, allow_loopback: None) -> None:
    with pytest.raises(ConnectFailed) as caught:
        client_of(1, fake_time).post("/x", {"a": 1})
    assert caught.value.attempts == 5
    assert not caught.value.may_have_happened


def test_each_attempt_is_signed_afresh(make_client: MakeClient, sandbox: Sandbox, key: str) -> None:
    """The sandbox refuses an OAuth1 nonce that it has seen; the time moves on by the waits, not by sleeping."""
    slept: list[float] = []
    client = make_client("oauth1", clock=Clock(sleep=slept.append))
    assert client.get("/flaky", {"key": key, "fails": 2}).json()["attempt"] == 3
    assert len(slept) == 2


# --- time ---


def test_a_deadline_bounds_all_attempts(make_client: MakeClient, fake_time: FakeTime) -> None:
    with pytest.raises(UpstreamServerError) as caught:
        make_client().get("/status/500", deadline_ms=5_000)
    assert fake_time.slept == [1.5, 2.5]
    assert caught.value.attempts == 3


def test_the_providers_timeout_bounds_an_attempt(make_client: MakeClient) -> None:
    client = make_client(timeout_ms=200, retry_config=NEVER)
    started = time.monotonic()
    with pytest.raises(CallTimeout):
        client.get("/slow?seconds=0&trickle=0.02&bytes=5000")
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("options", [{"timeout_ms": 0}, {"timeout_ms": -5}, {"deadline_ms": 0}])
def test_a_time_that_is_none_is_refused(make_client: MakeClient, options: dict[str, int]) -> None:
    with pytest.raises(InvalidInput):
        make_client().get("/balance", **options)


# --- broken upstreams ---


@pytest.mark.parametrize(
    "path",
    [
        "/close?when=before", "/close?when=head", "/close?when=body", "/close?when=chunk&how=reset", "/endless",
        "/gzip-bomb", "/big?bytes=20000000", "/lie?bytes=10&content_length=1000", "/not-http",
    ],
)  # fmt: skip
def test_a_broken_answer_is_a_clear_error(make_client: MakeClient, path: str) -> None:
    with pytest.raises(BadAnswer) as caught:
        make_client(retry_config=NEVER).get(path)
    assert caught.value.request_id.startswith("req_")


# --- limits ---


def test_a_call_waits_for_its_slot(make_client: MakeClient, fake_time: FakeTime, events: list[Event]) -> None:
    client = make_client(rate_limit={"requests_per_minute": 75}, clock=quick_clock(fake_time))
    client.get("/balance")
    client.get("/balance")
    # One call at a time, 0.8 s apart: time enough for a busy machine to ask for the second slot too early.
    assert 0 < fake_time.slept[0] <= 0.81
    assert next(event.reason for event in events if event.kind == "wait") == "rate_limit"


def quick_clock(fake_time: FakeTime) -> Clock:
    """Valkey's clock is real: what is slept is noted, and really slept."""

    def sleep(seconds: float) -> None:
        fake_time.sleep(seconds)
        time.sleep(seconds)

    return Clock(monotonic=lambda: fake_time.at, now=lambda: fake_time.at, sleep=sleep, chance=lambda: 0.5)


def test_no_slot_in_time_is_an_error_with_the_time_of_the_next(make_client: MakeClient, fake_time: FakeTime) -> None:
    client = make_client(rate_limit={"requests_per_hour": 10})
    client.get("/balance")
    with pytest.raises(RateLimited) as caught:
        client.get("/balance")
    assert 300 < caught.value.retry_after_seconds <= 360
    assert fake_time.slept == []


def test_each_attempt_takes_a_slot(make_client: MakeClient, sandbox: Sandbox, key: str) -> None:
    with pytest.raises(RateLimited):
        make_client(rate_limit={"requests_per_hour": 74, "burst": 2}).get("/status/500", {"key": key})
    assert sandbox.count(key) == 2


@pytest.mark.parametrize(("scope", "second_passes"), [("connection", True), ("provider", False)])
def test_a_limit_is_the_connections_or_the_providers(
    sandbox: Sandbox, allow_loopback: None, scope: str, second_passes: bool
) -> None:
    config = {"base_url": sandbox.url, "auth_type": "none", "rate_limit": {"requests_per_day": 1, "scope": scope}}
    first = make_target(config, {})
    second = type(first)(first.provider_id, "acme", f"{first.connection_id}b", "other", first.config)
    ApiClient(first).get("/balance")
    if second_passes:
        ApiClient(second).get("/balance")
    else:
        with pytest.raises(RateLimited):
            ApiClient(second).get("/balance")


def test_without_valkey_a_share_of_the_limit_holds(
    make_client: MakeClient, settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings.REDIS_URL = "redis://:hunter22@127.0.0.1:1/0"
    monkeypatch.setattr(slots, "_slots", slots._Slots())
    client = make_client(rate_limit={"requests_per_hour": 200, "burst": 8})  # a quarter is 2
    for _ in range(2):
        client.get("/balance")
    with pytest.raises(RateLimited):
        client.get("/balance")
    assert caplog.text.count("Valkey is away") == 1
    assert "hunter22" not in caplog.text


def test_the_shared_limit_holds_again_once_valkey_is_back(
    make_client: MakeClient, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, settings.REDIS_URL = settings.REDIS_URL, "redis://127.0.0.1:1/0"
    monkeypatch.setattr(slots, "_slots", slots._Slots())
    client = make_client(rate_limit={"requests_per_day": 1})
    client.get("/balance")
    settings.REDIS_URL = url
    with pytest.raises(RateLimited):  # this process still remembers that Valkey was away
        client.get("/balance")
    monkeypatch.setattr(slots, "monotonic", lambda: time.monotonic() + 3)
    client.get("/balance")
    with pytest.raises(RateLimited):
        client.get("/balance")


# --- threads ---


def test_threads_share_a_client(make_client: MakeClient) -> None:
    client, wrong = make_client("bearer"), []

    def call(number: int) -> None:
        for index in range(10):
            echoed = client.get("/echo", {"n": f"{number}-{index}"}).json()
            if echoed["query"]["n"] != f"{number}-{index}":
                wrong.append(echoed)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_guard_stands_before_every_call(sandbox: Sandbox, settings: Any) -> None:
    settings.EGRESS_ALLOW = []
    with pytest.raises(EgressRefused):
        ApiClient(make_target({"base_url": sandbox.url, "auth_type": "none"}, {})).get("/balance")


def test_every_request_says_who_calls(allow_loopback: None) -> None:
    heads: list[bytes] = []

    def play(client: Any) -> None:
        heads.append(read_head(client))
        client.sendall(OK)

    with serve(play) as port:
        client_of(port).get("/")
    assert b"User-Agent: external-api-manager\r\n" in heads[0]
    assert b"X-Request-Id: req_" in heads[0]
