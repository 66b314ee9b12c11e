"""How an import shows how far it is, and how it is stopped."""

from __future__ import annotations

import io
import os
import signal

import pytest

from connections.imports import stops
from connections.imports.progress import Meter, _Lines, shown


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_a_line_every_few_seconds_and_one_at_the_end() -> None:
    stream, clock = io.StringIO(), Clock()
    meter = Meter(1_000, _Lines(stream, "accounts", clock=clock), clock=clock)
    for _ in range(4):
        clock.now += 2
        meter.advance(100, failed=1)
    meter.close()
    assert stream.getvalue().splitlines() == [
        "300 of 1,000 accounts, 50 a second, 3 failed, 0:00:14 left",
        "400 of 1,000 accounts, 50 a second, 4 failed",
    ]


def test_nobody_knows_how_long_an_unknown_number_takes() -> None:
    stream = io.StringIO()
    with shown(stream, "rows") as meter:
        meter.advance(5)
        assert meter.remaining_seconds is None
    assert stream.getvalue().startswith("5 rows, ")


def test_what_was_done_before_is_not_counted_again() -> None:
    with shown(io.StringIO(), "rows", 100, already=70) as meter:
        assert meter.total == 30
    with shown(io.StringIO(), "rows", 10, already=70) as meter:
        assert meter.total == 0


def test_the_last_line_comes_also_when_it_breaks_off() -> None:
    stream = io.StringIO()

    def fail(meter: Meter) -> None:
        meter.advance(4)
        raise ValueError

    with pytest.raises(ValueError), shown(stream, "rows", 10) as meter:
        fail(meter)
    assert "4 of 10 rows" in stream.getvalue()


def test_a_terminal_gets_a_bar_with_rate_and_failures() -> None:
    stream = Terminal()
    with shown(stream, "accounts", 10) as meter:
        meter.advance(10, failed=2)
    drawn = stream.getvalue()
    for part in ("accounts", "10/10", "/s", "2 failed"):
        assert part in drawn


def test_machines_see_nothing() -> None:
    stream = Terminal()
    with shown(stream, "accounts", 10, is_silent=True) as meter:
        meter.advance(10)
    assert stream.getvalue() == ""
    assert meter.done == 10


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_asks_to_stop_and_handlers_come_back(number: signal.Signals, code: int) -> None:
    before = signal.getsignal(number)
    with stops.watched() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop
        assert stop.exit_code == code
    assert signal.getsignal(number) is before


def press_ctrl_c(times: int) -> None:
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_second_ctrl_c_breaks_off_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), stops.watched():
        press_ctrl_c(2)
