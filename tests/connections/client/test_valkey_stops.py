"""Valkey stopped in the middle of calls that share a limit: they go on, at a share of it, and never without one."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

import pytest

from connections.client import ApiClient, slots
from external_apis.errors import RateLimited
from external_apis.rate_limit import LocalLimiter
from tests.connections.client.conftest import make_target
from tests.external_apis.test_valkey import free_port, server
from tests.sandbox import Sandbox

LIMIT = 80


@pytest.mark.usefixtures("allow_loopback")
def test_calls_go_on_at_a_share_of_the_limit(
    sandbox: Sandbox, settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    settings.REDIS_URL = f"redis://:hunter22@127.0.0.1:{port}/0"
    monkeypatch.setattr(slots, "_slots", slots._Slots())
    config = {"base_url": sandbox.url, "auth_type": "none", "rate_limit": {"requests_per_second": LIMIT}}
    client = ApiClient(make_target(config, {}))
    sent: list[float] = []
    wrong: list[Exception] = []
    stop = threading.Event()

    def call() -> None:
        while not stop.is_set():
            try:
                client.get("/balance", timeout_ms=3000)
                sent.append(time.monotonic())
            except RateLimited:
                pass
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=call) for _ in range(4)]
    with server(port):
        for thread in threads:
            thread.start()
        time.sleep(0.8)
        before = len(sent)
    stopped = time.monotonic()
    time.sleep(1.5)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert before >= LIMIT / 2
    after = [moment for moment in sent if moment > stopped + 0.1]
    share = LIMIT // LocalLimiter.SHARE
    assert share / 2 < len(after) <= 1.5 * share + len(threads)
    assert "Valkey is away" in caplog.text
    assert "hunter22" not in caplog.text


@pytest.mark.usefixtures("allow_loopback")
@pytest.mark.parametrize("limits", [{"rate_limit": {"requests_per_second": 1000}}, {}])
def test_a_valkey_that_hangs_fails_no_call_and_delays_only_the_first(
    sandbox: Sandbox, settings: Any, monkeypatch: pytest.MonkeyPatch, limits: dict[str, Any]
) -> None:
    port = free_port()
    settings.REDIS_URL = f"redis://:hunter22@127.0.0.1:{port}/0"
    monkeypatch.setattr(slots, "_slots", slots._Slots())
    monkeypatch.setattr(slots, "_PAUSE_SEEN_SECONDS", 0.0)
    config = {"base_url": sandbox.url, "auth_type": "none", "retry_config": {"max_retries": 0}, **limits}
    client = ApiClient(make_target(config, {}))
    took: list[float] = []
    wrong: list[Exception] = []

    def call() -> None:
        started = time.monotonic()
        try:
            client.get("/balance", timeout_ms=400)  # less than Valkey's time-out
        except Exception as error:
            wrong.append(error)
        took.append(time.monotonic() - started)

    with server(port) as process:
        call()
        process.send_signal(signal.SIGSTOP)
        try:
            call()
            threads = [threading.Thread(target=call) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            process.send_signal(signal.SIGCONT)
    assert not wrong
    assert 0.4 < took[1] < 1.5
    assert max(took[2:]) < 0.35
