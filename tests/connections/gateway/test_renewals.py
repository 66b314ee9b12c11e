"""Leases of keyed calls that go on while their answers are on the way."""

from __future__ import annotations

import queue
import threading
from typing import cast

import pytest
from django.db import DatabaseError

from connections import idempotent_calls
from connections.gateway import renewals


class Claim:
    """Stands for a row: what matters here is who writes last."""

    def __init__(self, extending: queue.SimpleQueue[Claim]) -> None:
        self.may_go_on = threading.Event()
        self.writes: list[str] = []
        self._extending = extending

    def extend(self, _seconds: float) -> None:
        if self.writes:  # not the first, which is the holder's own
            self._extending.put(self)
            self.may_go_on.wait(5)
        self.writes.append("extended")


def test_nothing_is_extended_once_it_was_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even by a thread that was about to: a call in doubt would look as if it were under way."""
    monkeypatch.setattr(renewals, "_EVERY_SECONDS", 0.01)
    extending: queue.SimpleQueue[Claim] = queue.SimpleQueue()
    keeper, one, two = renewals._Keeper(), Claim(extending), Claim(extending)
    keeper.keep(one)  # type: ignore[arg-type]
    keeper.keep(two)  # type: ignore[arg-type]
    held = extending.get(timeout=5)
    other = two if held is one else one
    other.may_go_on.set()
    ended = threading.Event()

    def end() -> None:
        keeper.let_go(held)  # type: ignore[arg-type]
        held.writes.append("ended")
        ended.set()

    threading.Thread(target=end, daemon=True).start()
    assert not ended.wait(0.05)  # until the write under way is through
    held.may_go_on.set()
    assert ended.wait(5)
    keeper.let_go(other)  # type: ignore[arg-type]
    thread = keeper._thread
    if thread is not None:
        thread.join(5)
    assert held.writes[-1] == "ended"


def test_a_database_that_fails_costs_one_renewal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The calls of all others hang on the same thread, too."""
    monkeypatch.setattr(renewals, "_EVERY_SECONDS", 0.01)

    class Unlucky:
        """Is extended by its holder, fails once, and goes on."""

        def __init__(self) -> None:
            self.tries, self.goes_on = 0, threading.Event()

        def extend(self, _seconds: float) -> None:
            self.tries += 1
            if self.tries == 2:
                raise DatabaseError
            if self.tries > 3:
                self.goes_on.set()

    keeper, claim = renewals._Keeper(), Unlucky()
    keeper.keep(claim)  # type: ignore[arg-type]
    thread = keeper._thread
    assert thread is not None
    assert claim.goes_on.wait(2)
    keeper.let_go(claim)  # type: ignore[arg-type]
    thread.join(5)
    assert not thread.is_alive()


def test_a_database_that_fails_at_first_keeps_no_answer_back() -> None:
    class Unlucky:
        def extend(self, _seconds: float) -> None:
            raise DatabaseError

    keeper, claim = renewals._Keeper(), cast("idempotent_calls.Claim", Unlucky())
    keeper.keep(claim)
    assert claim in keeper._claims
    keeper.let_go(claim)
