"""What a call through `ApiClient` costs, in units of a plain `requests.Session().get` to the same loopback server."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from connections.client import ApiClient, Target
from external_apis.api_config import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS, CALLS = 15, 60
LIMITS = {
    "requests_per_second": 100_000,
    "requests_per_minute": 5_000_000,
    "requests_per_hour": 100_000_000,
    "requests_per_day": 1_000_000_000,
}


@pytest.fixture
def origin() -> Iterator[str]:
    command = [sys.executable, str(Path(__file__).with_name("loopback.py"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        server.terminate()


def make_client(origin: str, **config: Any) -> ApiClient:
    data = {"base_url": f"{origin}/v1", "auth_type": "bearer", **config}
    parsed = parse(data, environment="development")
    return ApiClient(Target("ext_api_b", "bench", "conn_b", "default", parsed, {"access_token": "token-of-the-bench"}))


def seconds_of(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - started) / CALLS


def test_a_call_costs_less_than_plain_requests(origin: str, settings: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The ratios are printed; the bounds are those that the product promises, and it stays well below them."""
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    session = requests.Session()
    plain, limited = make_client(origin), make_client(origin, rate_limit=LIMITS)
    calls: dict[str, Callable[[], Any]] = {
        "requests": lambda: session.get(f"{origin}/v1/balance", headers={"Authorization": "Bearer token-of-the-bench"}),
        "plain": lambda: plain.get("/balance"),
        "limited": lambda: limited.get("/balance"),
    }
    times: dict[str, list[float]] = {name: [seconds_of(call)][:0] for name, call in calls.items()}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            times[name].append(seconds_of(call))
    medians = {name: statistics.median(values) for name, values in times.items()}
    without, with_limit = medians["plain"] / medians["requests"], medians["limited"] / medians["requests"]
    with capsys.disabled():
        print(
            f"\nApiClient.get / requests.Session().get: {without:.2f} without a rate limit, {with_limit:.2f} with four "
            f"windows ({medians['requests'] * 1e6:.0f} us a plain call)"
        )
    assert without < 0.85
    assert with_limit < 1.05
