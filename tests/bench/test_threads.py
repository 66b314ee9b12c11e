"""Eight threads through one client against eight threads with a plain session of requests each."""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from connections.client import ApiClient, Target
from external_apis.api_config import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

THREADS, CALLS, ROUNDS = 8, 40, 7


@pytest.fixture
def origin() -> Iterator[str]:
    command = [sys.executable, str(Path(__file__).with_name("loopback.py"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        server.terminate()


def calls_a_second(calls: list[Callable[[], Any]]) -> float:
    """Run one thread for each call, all from the same moment."""
    barrier = threading.Barrier(len(calls) + 1)

    def work(call: Callable[[], Any]) -> None:
        call()  # connects
        barrier.wait()
        for _ in range(CALLS):
            call()

    threads = [threading.Thread(target=work, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    barrier.wait()
    started = time.perf_counter()
    for thread in threads:
        thread.join()
    return len(calls) * CALLS / (time.perf_counter() - started)


def test_one_client_serves_threads_as_fast_as_a_session_for_each(
    origin: str, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    config = parse({"base_url": f"{origin}/v1", "auth_type": "bearer"}, environment="development")
    client = ApiClient(Target("ext_api_b", "bench", "conn_b", "default", config, {"access_token": "token"}))
    sessions = [requests.Session() for _ in range(THREADS)]
    bare: list[Callable[[], Any]] = [
        lambda session=session: session.get(f"{origin}/v1/x", headers={"Authorization": "Bearer token"})  # type: ignore[misc]
        for session in sessions
    ]
    ours: list[Callable[[], Any]] = [lambda: client.get("/x")] * THREADS
    rates: dict[str, list[float]] = {"bare": [], "ours": []}
    for _ in range(ROUNDS):
        rates["bare"].append(calls_a_second(bare))
        rates["ours"].append(calls_a_second(ours))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    with capsys.disabled():
        print(
            f"\n8 threads through one ApiClient / 8 bare sessions: {medians['ours'] / medians['bare']:.2f} times the "
            f"calls ({medians['ours']:.0f} and {medians['bare']:.0f} a second)"
        )
    assert medians["ours"] >= medians["bare"]
