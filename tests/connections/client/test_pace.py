"""The provider's own headers slow the limiter down, for every client and process."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
from urllib3 import HTTPHeaderDict

from connections.client import ApiClient, slots
from connections.client.pace import read_pause
from external_apis.errors import RateLimited, UpstreamRateLimited
from external_apis.rate_limit import pause_seconds
from tests.connections.client.conftest import make_target
from tests.sockets import answering, serve

NOW = 1_700_000_000.0


def pause(headers: dict[str, str], *, is_refusal: bool = False) -> float:
    return read_pause(HTTPHeaderDict(headers), NOW, is_refusal=is_refusal)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "30"}, 30),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW) + 45)}, 45),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(NOW * 1000) + 500)}, 0.5),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(NOW) - 45)}, 0),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1.5"}, 1.5),
        ({"X-Rate-Limit-Remaining": "0", "X-Rate-Limit-Reset": "8"}, 8),
        ({"RateLimit-Remaining": "0", "RateLimit-Reset": "9"}, 9),
        ({"RateLimit": "limit=100, remaining=0, reset=50"}, 50),
        ({"RateLimit": '"default";r=0;t=20'}, 20),
        ({"RateLimit": '"burst";r=5;t=2, "daily";r=0;t=600'}, 600),
        ({"RateLimit": '"burst";t=2;r=0, "daily";r=3;t=600'}, 2),
        ({"X-RateLimit-Remaining": "1", "X-RateLimit-Reset": "30"}, 0),
        ({"X-RateLimit-Remaining": "0"}, 0),
        ({"X-RateLimit-Reset": "30"}, 0),
        ({"RateLimit": '"default";r=1;t=20'}, 0),
        ({"RateLimit": '"default";r=0'}, 0),
        ({"RateLimit": "nonsense,,;;="}, 0),
        ({"X-RateLimit-Remaining": "none", "X-RateLimit-Reset": "30"}, 0),
        ({"X-RateLimit-Remaining": "-1", "X-RateLimit-Reset": "1e9"}, 0),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9" * 5000}, 0),
        ({"Retry-After": "5"}, 0),
        ({}, 0),
    ],
)
def test_headers_say_when_the_next_call_is_wanted(headers: dict[str, str], seconds: float) -> None:
    assert pause(headers) == seconds


def test_a_refusal_speaks_through_retry_after() -> None:
    later = format_datetime(datetime.fromtimestamp(NOW + 90, UTC), usegmt=True)
    assert pause({"Retry-After": "5"}, is_refusal=True) == 5
    assert pause({"Retry-After": later}, is_refusal=True) == 90
    assert pause({"Retry-After": "5", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "99"}, is_refusal=True) == 5
    assert pause({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "99"}, is_refusal=True) == 99


def told(extra: str, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n{extra}\r\n\r\n".encode()


SPENT = told("X-RateLimit-Remaining: 0\r\nX-RateLimit-Reset: 40")
REFUSED = told("Retry-After: 40", "429 Slow")
LIMITS: list[dict[str, Any]] = [{}, {"rate_limit": {"requests_per_minute": 1000}}]


@pytest.mark.usefixtures("allow_loopback")
@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("answer", [SPENT, REFUSED])
def test_every_process_waits(limits: dict[str, Any], answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(answering(answer, answer)) as port:
        config = {"base_url": f"http://127.0.0.1:{port}", "auth_type": "none", **limits}
        config["retry_config"] = {"max_retries": 0}
        target = make_target(config, {})
        with suppress(UpstreamRateLimited):
            ApiClient(target).get("/x")
        assert 38 < pause_seconds(target.connection_id) <= 40
        for _ in range(2):
            with pytest.raises(RateLimited) as caught:
                ApiClient(target).get("/x", timeout_ms=1000)
            assert 38 < caught.value.retry_after_seconds <= 40
            monkeypatch.setattr(slots, "_slots", slots._Slots())  # another process, which was told nothing


@pytest.mark.usefixtures("allow_loopback")
def test_a_pause_that_ends_within_the_time_out_is_waited_for() -> None:
    short = told("X-RateLimit-Remaining: 0\r\nX-RateLimit-Reset: 0.3")
    with serve(answering(short, told("X-Y: 1"))) as port:
        target = make_target({"base_url": f"http://127.0.0.1:{port}", "auth_type": "none"}, {})
        client = ApiClient(target)
        client.get("/x")
        started = time.monotonic()
        client.get("/x")
        assert 0.2 < time.monotonic() - started < 2


@pytest.mark.usefixtures("allow_loopback")
def test_a_pause_is_kept_to_without_valkey(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    monkeypatch.setattr(slots, "_slots", slots._Slots())
    for limits in LIMITS:
        with serve(answering(SPENT)) as port:
            target = make_target({"base_url": f"http://127.0.0.1:{port}", "auth_type": "none", **limits}, {})
            ApiClient(target).get("/x")
            with pytest.raises(RateLimited):
                ApiClient(target).get("/x", timeout_ms=1000)


def test_a_slow_look_up_makes_no_pause_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]

    def look_up_slowly(scope_key: str) -> float:
        clock[0] += 3
        return 40.0

    monkeypatch.setattr(slots, "monotonic", lambda: clock[0])
    monkeypatch.setattr(slots, "pause_seconds", look_up_slowly)
    assert slots._Slots()._pause_left("conn_slow") == 40
