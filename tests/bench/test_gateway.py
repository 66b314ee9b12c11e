"""What a call through the gateway costs, in units of a bare Django view that passes it on with requests."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.factories import make_connection, make_key, make_provider
from tests.processes import resident_bytes
from tests.web import Web, serve

pytestmark = pytest.mark.django_db(transaction=True)

CLIENTS, SECONDS, ROUNDS = 8, 1.0, 9
LIMITS = {
    "requests_per_second": 100_000,
    "requests_per_minute": 5_000_000,
    "requests_per_hour": 100_000_000,
    "requests_per_day": 1_000_000_000,
}
_MOST_BYTES = 200 * 1024 * 1024


@pytest.fixture
def upstream() -> Iterator[str]:
    command = [sys.executable, str(Path(__file__).with_name("loopback.py")), "1024"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        server.terminate()


def requests_a_second(web: Web, path: str, token: str) -> float:
    command = [sys.executable, str(Path(__file__).with_name("requests_load.py"))]
    command += [str(web.port), path, f"Bearer {token}", str(CLIENTS), str(SECONDS)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout)


def test_the_gateway_serves_as_much_as_a_bare_view(
    upstream: str, tmp_path: Path, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    api = make_provider(api_config={"base_url": f"{upstream}/v1", "rate_limit": LIMITS}, environment="development")
    row = make_connection(api)
    key = make_key(scopes=["proxy"], rate_limit=10_000_000)
    rates: dict[str, list[float]] = {"bare": [], "ours": []}
    view = "tests.bench.bare_view:application"
    with serve(tmp_path) as mine, serve(tmp_path, application=view, BENCH_UPSTREAM=f"{upstream}/v1") as plain:
        for _ in range(ROUNDS):
            rates["bare"].append(requests_a_second(plain, "/proxy/balance", "x"))
            rates["ours"].append(requests_a_second(mine, f"/api/external/proxy/{row.pk}/balance", key.token))
        memory = resident_bytes(mine.worker_pid)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    # Neighbours in time have the same machine, whatever else that is doing.
    ratio = statistics.median(ours / bare for ours, bare in zip(rates["ours"], rates["bare"], strict=True))
    with capsys.disabled():
        print(
            f"\nThe gateway / a bare view with requests, {CLIENTS} clients: {ratio:.2f} times the requests "
            f"({medians['ours']:.0f} and {medians['bare']:.0f} a second), {memory / 2**20:.0f} MiB"
        )
    assert memory < _MOST_BYTES
    assert ratio >= 1.0


def test_two_workers_cost_no_more_than_one(
    upstream: str, tmp_path: Path, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing that all requests touch makes them wait for each other, in either process."""
    api = make_provider(api_config={"base_url": f"{upstream}/v1", "rate_limit": LIMITS}, environment="development")
    path = f"/api/external/proxy/{make_connection(api).pk}/balance"
    key = make_key(scopes=["proxy"], rate_limit=10_000_000)
    costs: dict[str, list[float]] = {"one": [], "two": []}
    with serve(tmp_path) as one, serve(tmp_path, workers=2) as two:
        for web in (one, two):
            requests_a_second(web, path, key.token)
        for _ in range(ROUNDS):
            for name, web in (("one", one), ("two", two)):
                before = web.processor_seconds
                count = requests_a_second(web, path, key.token) * SECONDS
                costs[name].append((web.processor_seconds - before) / count)
    ratio = statistics.median(two / one for one, two in zip(costs["one"], costs["two"], strict=True))
    with capsys.disabled():
        micros = {name: round(statistics.median(values) * 1e6) for name, values in costs.items()}
        print(f"\nProcessor time of a call, two workers / one: {ratio:.2f} ({micros} microseconds)")
    assert ratio <= 1.1
