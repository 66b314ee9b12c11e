"""Counters: a call costs no round trip, and nothing is lost or counted twice on the way to the roll-up."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
import redis

from connections.client import ApiClient, usage, usage_store
from connections.client.samples import Sample
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


def test_a_single_call_that_was_taken_comes_once() -> None:
    made = Sample("conn_a", 1.0, "GET", "/", 500, "X", 1, 1, "")
    usage.keep(lambda: made, is_error=True, one_in=0)
    with usage.drain() as batch:
        assert batch.samples == [made]
    usage.record("conn_a", {"calls": 1}, at=1.0)
    with usage.drain() as batch:
        assert batch.counts["conn_a"].calls == 1
        assert batch.samples == []


def test_of_very_much_a_part_is_taken_which_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever takes it knows to come again at once; nothing is left behind, and nothing comes twice."""
    monkeypatch.setattr(usage_store, "_MOST_TAKEN", 100)
    count, found, parts = 3000, dict[str, int](), list[bool]()
    for number in range(count):
        usage.record(f"conn_{number}", {"calls": 1}, at=60.0)
    assert usage.flush()
    while not parts or parts[-1]:
        with usage.drain() as batch:
            parts.append(batch.is_full)
            for (name, _), bag in batch.periods.items():
                found[name] = found.get(name, 0) + bag["calls"]
    assert parts[0]
    assert found == {f"conn_{number}": 1 for number in range(count)}
    usage.record("conn_a", {"calls": 1}, at=60.0)
    with usage.drain() as batch:
        assert not batch.is_full


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
    real = usage_store.add

    def lose(*arguments: Any) -> None:
        real(*arguments)
        raise redis.TimeoutError

    monkeypatch.setattr(usage_store, "add", lose)
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


def test_the_latest_use_stays_whoever_hands_over_last() -> None:
    for at in (100.0, 90.0):
        usage.record("conn_a", {"calls": 1}, at=at)
        assert usage.flush()
    with usage.drain() as batch:
        assert batch.counts["conn_a"].last_used_at == datetime.fromtimestamp(100, UTC)


def test_a_batch_is_remembered_longer_than_anybody_tries_to_hand_it_over() -> None:
    usage.record("conn_a", {"calls": 1}, at=1.0)
    assert usage.flush()
    client = valkey.client()
    (mark,) = client.scan_iter(f"{usage_store._SEEN}*")
    assert 300 < client.ttl(mark) <= 600


@pytest.mark.parametrize("fails", [True, False])
def test_whoever_lost_the_lease_ends_nobody_elses(fails: bool) -> None:
    usage.record("conn_a", {"calls": 1}, at=1.0)
    client = valkey.client()
    with suppress(ZeroDivisionError), usage.drain() as batch:
        assert "conn_a" in batch.counts
        client.set(usage_store._LEASE, "lease_of_another")  # our own has run out meanwhile
        if fails:
            raise ZeroDivisionError
    assert client.get(usage_store._LEASE) == b"lease_of_another"
    assert client.exists(usage_store._TAKEN)


def test_counting_is_done_under_the_lock() -> None:
    """Threads that count at the same time lose nothing: nobody looks at the sums without the lock."""
    recorder = usage._Recorder()
    looks: list[bool] = []

    class Watched(dict[Any, Any]):
        def get(self, *arguments: Any) -> Any:
            looks.append(recorder._lock.locked())
            return super().get(*arguments)

        def __setitem__(self, *arguments: Any) -> None:
            looks.append(recorder._lock.locked())
            super().__setitem__(*arguments)

    recorder._sums.periods = Watched()
    recorder._sums.periods["conn_a", 0] = Watched()
    looks.clear()
    recorder._wake = lambda: None  # type: ignore[method-assign]
    recorder.record("conn_a", {"calls": 1}, 1.0)
    recorder.record("conn_a", {"calls": 1}, 1.0)
    assert len(looks) >= 4
    assert all(looks)


class TestBounds:
    """Nobody drains, for want of a worker: Valkey is not filled up, and what is newest is there when somebody does."""

    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        script = usage_store._ADD
        for name, number in (("_MOST_FINE_SUMS", 20), ("_MOST_SUMS", 30), ("_MOST_WAITING", 40)):
            script = script.replace(str(getattr(usage_store, name)), str(number))
        script = script.replace(f"total < {usage_store._MOST_WAITING // 2}", "total < 20")
        script = script.replace(f"and {usage_store._MOST_WAITING_OF_ONE} or", "and 15 or")
        monkeypatch.setattr(usage_store, "_ADD", script)

    def test_further_minutes_go_to_the_hours_first_one_and_then_nowhere(self) -> None:
        for minute in range(60):
            usage.record("conn_a", {"calls": 1}, at=7200.0 + 60 * minute)
            assert usage.flush()
        with usage.drain() as batch:
            minutes = {minute: bag["calls"] for (_, minute), bag in batch.periods.items()}
            assert batch.counts["conn_a"].calls == 60
        assert sum(minutes.values()) == 60
        assert len(minutes) <= 21
        assert minutes[120] > 30
        for number in range(50):
            usage.record(f"conn_{number}", {"calls": 1, "errors": 1}, at=7200.0)
        assert usage.flush()
        assert valkey.client().hlen(usage_store._PENDING) <= 30

    def test_one_noisy_connection_leaves_room_for_the_others_newest(self) -> None:
        def keep(name: str, at: float, error: str) -> None:
            made = Sample(name, at, "GET", "/", 200, error, 1, 1, "")
            usage.keep(lambda: made, is_error=True, one_in=1)

        for number in range(200):
            keep("conn_noisy", float(number), "X")
            keep("conn_noisy", float(number), "")
            if number % 10 == 0:
                assert usage.flush()
        for number in range(20):
            keep("conn_quiet", float(number), "X")
        with usage.drain() as batch:
            kept = [(sample.connection_id, bool(sample.error), sample.at) for sample in batch.samples]
        assert len(kept) <= 40
        assert {("conn_noisy", True, 199.0), ("conn_noisy", False, 199.0), ("conn_quiet", True, 19.0)} <= set(kept)
        assert sum(name == "conn_quiet" for name, *_ in kept) == 5

    def test_connections_whose_calls_were_dropped_are_forgotten(self, settings: Any) -> None:
        settings.REDIS_URL = "redis://127.0.0.1:1/0"
        for number in range(3 * usage._MOST_SAMPLES):
            made = Sample(f"conn_{number}", float(number), "GET", "/", 500, "X", 1, 1, "")
            usage.keep(lambda made=made: made, is_error=True, one_in=0)  # type: ignore[misc]
        assert len(usage._recorder._sums.samples.queues) <= usage._MOST_SAMPLES
