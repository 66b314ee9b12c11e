"""Rounds of a thread, by its own clock: their pauses are a few milliseconds here."""

from __future__ import annotations

import os
import threading
from typing import Any

from connections.coalescer import Coalescer


def test_what_comes_during_a_round_is_one_batch_of_the_next() -> None:
    rounds: list[dict[Any, Any]] = []
    is_at_work, may_go_on = threading.Event(), threading.Event()

    def act(batch: dict[Any, Any]) -> None:
        rounds.append(batch)
        is_at_work.set()
        assert may_go_on.wait(5)

    rows: Coalescer[int, None] = Coalescer("test", act, pause_seconds=0.001)
    rows.put(lambda batch: batch.setdefault(0))
    assert is_at_work.wait(5)
    for number in range(1, 100):
        rows.put(lambda batch, number=number: batch.setdefault(number % 3))  # type: ignore[misc]
    assert not rows.flush(0.01)
    may_go_on.set()
    assert rows.flush(5)
    assert [sorted(batch) for batch in rounds] == [[0], [0, 1, 2]]


def test_a_round_that_fails_is_told_and_not_the_last(caplog: Any) -> None:
    done: list[str] = []

    def act(batch: dict[str, None]) -> None:
        if "bad" in batch:
            raise ValueError("secret")
        done.extend(batch)

    rows: Coalescer[str, None] = Coalescer("test", act, pause_seconds=0.001)
    for name in ("bad", "good"):
        rows.put(lambda batch, name=name: batch.setdefault(name))  # type: ignore[misc]
        assert rows.flush(5)
    assert done == ["good"]
    assert caplog.messages == ["A round of test failed (ValueError)"]


def test_a_forked_child_does_nothing_of_its_parents_and_has_a_thread_of_its_own() -> None:
    done: list[str] = []
    goes = threading.Event()

    def act(batch: dict[str, None]) -> None:
        assert goes.wait(5)
        done.extend(batch)

    rows: Coalescer[str, None] = Coalescer("test", act, pause_seconds=0.001)
    rows.put(lambda batch: batch.setdefault("first"))
    rows.put(lambda batch: batch.setdefault("parent's"))
    child = os.fork()
    if not child:
        goes.set()
        rows.put(lambda batch: batch.setdefault("child's"))
        os._exit(0 if rows.flush(5) and done == ["child's"] else 1)
    assert os.waitpid(child, 0)[1] == 0
    goes.set()
    assert rows.flush(5)
    assert sorted(done) == ["first", "parent's"]
