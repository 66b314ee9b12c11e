"""Counters: a call costs no round trip, and nothing is lost or counted twice on the way to the roll-up."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
import redis

from connections.client import ApiClient, usage
from external_apis import valkey
from external_apis.errors import ServiceUnavailable, UpstreamClientError
from tests.connections.client.conftest import FakeTime, MakeClient, make_target
from tests.sandbox import Sandbox


@pytest.fixture(autouse=True)
def _nothing_counted_yet() -> Iterator[None]:
    forget()
    yield
    forget()


def forget() -> None:
    usage.flush()
    client = valkey.client()
    for key in client.scan_iter(f"{valkey.PREFIX}{{usage}}*"):
        client.delete(key)


def test_calls_errors_and_last_use_are_counted(make_client: MakeClient, fake_time: FakeTime) -> None:
    client = make_client()
    client.get("/balance")
    with pytest.raises(UpstreamClientError):
        client.get("/status/404")
    fake_time.at += 10
    client.get("/balance")
    with usage.drain() as batch:
        found = batch.counts[client.target.connection_id]
    assert (found.calls, found.errors) == (3, 1)
    assert found.last_used_at == datetime.fromtimestamp(fake_time.at, UTC)


def test_a_call_without_a_slot_is_no_use(make_client: MakeClient) -> None:
    client = make_client(rate_limit={"requests_per_day": 1})
    client.get("/balance")
    with pytest.raises(Exception, match="rate limit"):
        client.get("/balance")
    with usage.drain() as batch:
        assert batch.counts[client.target.connection_id].calls == 1


def test_a_connection_that_is_not_stored_is_not_counted(sandbox: Sandbox, allow_loopback: None) -> None:
    target = make_target({"base_url": sandbox.url, "auth_type": "none"}, {})
    ApiClient(type(target)(target.provider_id, "acme", "", "", target.config)).get("/balance")
    with usage.drain() as batch:
        assert batch.counts == {}


def test_what_is_drained_is_gone_and_what_fails_comes_again() -> None:
    usage.record("conn_a", {"calls": 1, "errors": 1}, at=100.5)
    with pytest.raises(ZeroDivisionError), usage.drain() as batch:
        batch.counts["conn_a"].calls / 0
    usage.record("conn_a", {"calls": 1}, at=90.0)
    totals = [drained("conn_a"), drained("conn_a"), drained("conn_a")]
    assert totals == [(1, 1), (1, 0), None]


def drained(connection_id: str) -> tuple[int, int] | None:
    with usage.drain() as batch:
        found = batch.counts.get(connection_id)
        return (found.calls, found.errors) if found else None


def test_two_roll_ups_never_hold_the_same_counts() -> None:
    usage.record("conn_a", {"calls": 1}, at=1.0)
    with usage.drain() as first, usage.drain() as second:
        assert "conn_a" in first.counts
        assert second.counts == {}


def test_an_answer_that_was_lost_is_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Valkey did its work, but the process never heard of it and hands the same batch over again."""
    recorder = usage._Recorder()
    recorder._sums.periods["conn_a", 0] = {"calls": 2, "errors": 1}
    recorder._sums.last_use["conn_a"] = 5.0
    real = usage._script(valkey.client())

    def lose(**arguments: Any) -> None:
        real(**arguments)
        raise redis.TimeoutError

    monkeypatch.setattr(usage, "_script", lambda client: lose)
    assert not recorder.flush()
    monkeypatch.undo()
    assert recorder.flush()
    assert drained("conn_a") == (2, 1)


def test_without_valkey_calls_go_on_and_counts_are_kept(make_client: MakeClient, settings: Any) -> None:
    away, url = "redis://:hunter22@127.0.0.1:1/0", settings.REDIS_URL
    settings.REDIS_URL = away
    client = make_client()
    assert client.get("/balance").ok
    assert not usage.flush()
    with pytest.raises(ServiceUnavailable), usage.drain():
        pass
    settings.REDIS_URL = url
    assert drained(client.target.connection_id) == (1, 0)


RECORD = """
import os, sys, django
django.setup()
from connections.client import usage
usage.record(sys.argv[1], {"calls": 1}, at=1.0)
if os.fork() == 0:
    usage.record(sys.argv[1], {"calls": 1}, at=2.0)
    usage.flush()
    os._exit(0)
os.wait()
"""


def test_a_process_that_ends_hands_over_and_a_fork_does_not_do_it_twice() -> None:
    connection_id = f"conn_{uuid4().hex}"
    subprocess.run([sys.executable, "-W", "ignore", "-c", RECORD, connection_id], check=True, timeout=30)
    assert drained(connection_id) == (2, 0)
