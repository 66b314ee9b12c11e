"""What providers may configure of retries: opted-in statuses, waits, the total deadline, keys of the client's own."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID, uuid4

import pytest

from connections.client import ApiClient
from connections.wire.retry_after import parse_retry_after
from external_apis.errors import BadAnswer, CallTimeout, UpstreamClientError, UpstreamServerError
from tests.connections.client.conftest import FakeTime, MakeClient, make_target
from tests.sandbox import Sandbox
from tests.sockets import OK, read_head, serve

BUSY = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
def key() -> str:
    return uuid4().hex


@pytest.mark.parametrize("status", [408, 425])
def test_408_and_425_are_tried_again_where_the_provider_opts_in(
    make_client: MakeClient, sandbox: Sandbox, key: str, status: int
) -> None:
    client = make_client(retry_config={"retry_statuses": [status], "backoff_ms": 1})
    assert client.get("/flaky", {"key": key, "fails": 2, "status": status}).json()["attempt"] == 3
    with pytest.raises(UpstreamClientError):
        client.post(f"/flaky?key={key}p&fails=1&status={status}")
    assert sandbox.count(f"{key}p") == 1


@pytest.mark.parametrize(
    ("config", "waits"),
    [
        ({}, [1.5, 2.5, 4.5, 8.5]),
        ({"jitter_ms": 0}, [1, 2, 4, 8]),
        ({"jitter_ms": 200, "backoff_ms": 100}, [0.2, 0.3, 0.5, 0.9]),
        ({"max_backoff_ms": 3000}, [1.5, 2.5, 3, 3]),
        ({"backoff_ms": 0}, [0, 0, 0, 0]),
        ({"deadline_ms": 5000}, [1.5, 2.5]),
        ({"max_retries": 1}, [1.5]),
    ],
)
def test_waits_are_as_configured(
    make_client: MakeClient, fake_time: FakeTime, config: dict[str, Any], waits: list[float]
) -> None:
    with pytest.raises(UpstreamServerError) as caught:
        make_client(retry_config=config).get("/status/500")
    assert fake_time.slept == pytest.approx(waits)
    assert caught.value.attempts == len(waits) + 1


def test_a_calls_own_deadline_goes_before_the_providers(make_client: MakeClient, fake_time: FakeTime) -> None:
    with pytest.raises(UpstreamServerError):
        make_client(retry_config={"deadline_ms": 5000}).get("/status/500", deadline_ms=2000)
    assert fake_time.slept == [1.5]


def heads_of(
    method: str, fake_time: FakeTime, answers: list[bytes], headers: dict[str, str] | None = None, **retry: Any
) -> list[dict[str, str]]:
    """Call a server that plays the answers, and return the header fields of every request."""
    heads: list[dict[str, str]] = []

    def play(client: Any) -> None:
        while True:
            lines = read_head(client).decode("latin-1").split("\r\n")[1:]
            heads.append(dict(line.lower().split(": ", 1) for line in lines if ": " in line))
            client.sendall(answers[len(heads) - 1])

    with serve(play) as port:
        config = {"base_url": f"http://127.0.0.1:{port}", "auth_type": "none", "retry_config": retry}
        ApiClient(make_target(config, {}), clock=fake_time.clock).request(method, "/pay", headers=headers)
    return heads


@pytest.mark.usefixtures("allow_loopback")
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_the_client_adds_a_key_that_stays_the_same_in_all_attempts(fake_time: FakeTime, method: str) -> None:
    heads = heads_of(method, fake_time, [BUSY, BUSY, OK], idempotency_header="Request-Key")
    keys = [head["request-key"] for head in heads]
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert str(UUID(keys[0])) == keys[0]
    assert heads_of(method, fake_time, [OK], idempotency_header="Request-Key")[0]["request-key"] != keys[0]


@pytest.mark.usefixtures("allow_loopback")
def test_a_callers_own_key_is_kept(fake_time: FakeTime) -> None:
    heads = heads_of("POST", fake_time, [BUSY, OK], {"request-key": "mine"}, idempotency_header="Request-Key")
    assert [head["request-key"] for head in heads] == ["mine", "mine"]


@pytest.mark.usefixtures("allow_loopback")
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_what_may_be_repeated_anyway_gets_no_key(fake_time: FakeTime, method: str) -> None:
    assert "request-key" not in heads_of(method, fake_time, [OK], idempotency_header="Request-Key")[0]


def test_with_a_key_a_post_is_repeated_after_any_failure(make_client: MakeClient, sandbox: Sandbox, key: str) -> None:
    client = make_client(retry_config={"idempotency_header": "Idempotency-Key", "backoff_ms": 1})
    assert client.post(f"/flaky?key={key}&fails=1&how=close").json()["attempt"] == 2
    assert client.post(f"/flaky?key={key}t&fails=1&status=500").json()["attempt"] == 2


def test_without_one_a_time_out_is_final_and_says_that_it_may_have_happened(
    make_client: MakeClient, sandbox: Sandbox, key: str
) -> None:
    with pytest.raises(CallTimeout) as caught:
        make_client(retry_config={"backoff_ms": 1}).patch(f"/hang?key={key}", {"a": 1}, timeout_ms=150)
    assert caught.value.may_have_happened
    assert sandbox.count(key) == 1
    with pytest.raises(BadAnswer) as broken:
        make_client().post(f"/close?key={key}")
    assert broken.value.may_have_happened


@pytest.mark.parametrize(
    "date", ["Sun, 06 Nov 1994 08:49:47 GMT", "Sunday, 06-Nov-94 08:49:47 GMT", "Sun Nov  6 08:49:47 1994"]
)
def test_each_of_https_dates_is_in_utc_wherever_we_are(monkeypatch: pytest.MonkeyPatch, date: str) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert parse_retry_after(date, 784_111_777.0) == 10
    finally:
        monkeypatch.undo()
        time.tzset()
