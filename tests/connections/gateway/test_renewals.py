"""Leases of keyed calls that go on while their answers are on the way."""

from __future__ import annotations

import queue
import threading

import pytest

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
