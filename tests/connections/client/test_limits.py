"""Weights and priorities as a client's calls meet them; `tests/external_apis/test_rate_limit.py` has the arithmetic."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from connections.client import ApiClient
from connections.client.slots import Lane
from external_apis.errors import ApiManagerError, InvalidInput, RateLimited
from tests.connections.client.conftest import MakeClient, make_target
from tests.sandbox import Sandbox

WEIGHTS = {"POST": 2, "/reports/*": 10, "GET /search": 5, "GET /a[1]?": 7}


@pytest.mark.parametrize(
    ("method", "target", "weight"),
    [
        ("GET", "/v1/balance", 1),
        ("POST", "/v1/balance", 2),
        ("GET", "/v1/reports/2026/1?x=1", 10),
        ("POST", "/v1/reports/1", 10),
        ("GET", "/v1/reports", 1),
        ("GET", "/v1/search?q=/reports/1", 5),
        ("POST", "/v1/search", 2),
        ("GET", "/v1/a[1]?", 1),
        ("GET", "/v1/a1b", 1),
        ("GET", "/reports/1", 10),
    ],
)
def test_the_largest_weight_that_matches_counts(method: str, target: str, weight: int) -> None:
    config = {"base_url": "https://api.test/v1", "auth_type": "none", "rate_limit": {"weights": WEIGHTS}}
    assert Lane(make_target(config, {}), "/v1").weigh(method, target) == weight


def test_a_weighty_call_uses_up_so_much_of_the_limit(make_client: MakeClient) -> None:
    client = make_client(rate_limit={"requests_per_hour": 10, "weights": {"POST": 4, "/me": 3}, "burst": 7})
    client.post("/echo")
    client.get("/me")
    with pytest.raises(RateLimited):
        client.get("/balance")


def test_an_unknown_priority_is_refused(make_client: MakeClient) -> None:
    with pytest.raises(InvalidInput, match="priority"):
        make_client().get("/balance", priority="urgent")


@pytest.mark.usefixtures("allow_loopback")
def test_interactive_calls_go_before_batch_ones(sandbox: Sandbox) -> None:
    """Four batch threads want every slot; each interactive call still gets about the next one."""
    limit = {"requests_per_second": 10, "scope": "provider"}
    client = ApiClient(make_target({"base_url": sandbox.url, "auth_type": "none", "rate_limit": limit}, {}))
    stop, done, wrong = threading.Event(), [], []

    def run_batch() -> None:
        while not stop.is_set():
            try:
                client.get("/balance", priority="batch", timeout_ms=10_000)
                done.append(time.monotonic())
            except ApiManagerError as error:
                wrong.append(error)

    threads = [threading.Thread(target=run_batch) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    waits: list[float] = []
    for _ in range(6):
        started = time.monotonic()
        client.get("/balance", timeout_ms=10_000)
        waits.append(time.monotonic() - started)
        time.sleep(0.12)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert done, "batch calls are not starved where nobody waits"
    assert sum(waits) / len(waits) < 0.2


def test_a_slot_is_given_up_with_the_deadline(make_client: MakeClient, fake_time: Any) -> None:
    client = make_client(rate_limit={"requests_per_minute": 10})
    client.get("/balance")
    with pytest.raises(RateLimited) as caught:
        client.get("/balance", deadline_ms=1000)
    assert 5 < caught.value.retry_after_seconds <= 6
    assert caught.value.details["retry_after_seconds"] == round(caught.value.retry_after_seconds, 3)
    assert fake_time.slept == []
