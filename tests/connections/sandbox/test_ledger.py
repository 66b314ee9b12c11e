"""The sandbox's memory: what it counts, what it shows, and that it is bounded."""

from __future__ import annotations

import requests

from connections.sandbox import credentials as c
from connections.sandbox.bounded import Bounded
from connections.sandbox.state import KEYS, NONCES, REQUESTS_PER_KEY, Ledger, State
from tests.connections.sandbox.conftest import Client
from tests.sandbox import Sandbox, start_sandbox, stop_sandbox


def test_requests_are_counted_by_query_and_by_header(sandbox: Sandbox, client: Client, key: str) -> None:
    client.get("/me", params={"key": key})
    client.post("/auth/bearer/me", data=b"12345", headers={"X-Sandbox-Key": key, "Authorization": "Bearer wrong"})
    first, second = sandbox.requests(key)
    assert sandbox.count(key) == 2
    assert (first["method"], first["target"]) == ("GET", f"/me?key={key}")
    assert (second["method"], second["body_bytes"]) == ("POST", 5)
    assert second["headers"]["Authorization"] == "[redacted]"
    assert first["time"] < second["time"]
    assert first["time"].endswith("Z")


def test_no_secret_is_remembered(sandbox: Sandbox, client: Client, key: str) -> None:
    client.get("/auth/api-key-query/me", params={"api_key": c.QUERY_API_KEY, "key": key})
    client.get("/me", params={"other": f"x{c.BEARER_TOKEN}", "key": key})
    client.get("/me", params={"key": key}, headers={"X-Anything": c.APP_KEY})
    shown = str(sandbox.requests(key))
    assert not any(secret in shown for secret in c.SECRETS)


def test_reset_forgets_everything() -> None:
    started = start_sandbox()
    client = Client(started, requests.Session())
    client.get("/flaky?key=a&fails=1")
    assert (started.total(), started.count("a")) == (1, 1)
    started.reset()
    assert (started.total(), started.count("a")) == (0, 0)
    assert client.get("/flaky?key=a&fails=1").status_code == 503
    client.session.close()
    stop_sandbox(started)


def test_memory_is_bounded() -> None:
    ledger = Ledger()
    for number in range(KEYS + 50):
        ledger.record(f"k{number}", {})
    for _ in range(REQUESTS_PER_KEY + 50):
        ledger.record("busy", {})
    assert len(ledger.describe_all()["counts"]) == KEYS
    assert ledger.describe("k0")["count"] == 0
    assert ledger.describe("busy")["count"] == REQUESTS_PER_KEY + 50
    assert len(ledger.describe("busy")["requests"]) == REQUESTS_PER_KEY
    bounded: Bounded[int] = Bounded(2)
    for name in "abc":
        bounded.setdefault(name, 1)
    assert list(bounded) == ["b", "c"]
    state = State()
    assert all(state.use_nonce(str(number)) for number in range(NONCES + 1))
    assert len(state.nonces) == NONCES
    assert not state.use_nonce(str(NONCES))
