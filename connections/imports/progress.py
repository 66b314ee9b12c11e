"""How far a long import is: a bar on a terminal, a line every few seconds in a pipe, nothing for machines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["Meter", "shown"]

_LINE_EVERY_SECONDS = 5.0

Draw = Callable[["Meter", bool], None]


class Meter:
    """Counts rows; ``total`` is None where nobody knows it. ``clock`` counts seconds."""

    def __init__(self, total: int | None, draw: Draw, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = total
        self.done = self.failed = 0
        self._draw, self._clock = draw, clock
        self._began_at = clock()

    def advance(self, count: int, failed: int = 0) -> None:
        """Count a batch of rows that were looked at, ``failed`` of them in vain."""
        self.done += count
        self.failed += failed
        self._draw(self, False)

    @property
    def rate(self) -> float:
        """Rows a second since the meter was made."""
        elapsed = self._clock() - self._began_at
        return self.done / elapsed if elapsed > 0 else 0.0

    @property
    def remaining_seconds(self) -> float | None:
        """How long the rest takes at this rate; None where nobody knows."""
        if self.total is None or not self.rate:
            return None
        return max(0, self.total - self.done) / self.rate

    def close(self) -> None:
        """Draw what it came to."""
        self._draw(self, True)


@contextmanager
def shown(
    stream: TextIO, what: str, total: int | None = None, *, is_silent: bool = False, already: int = 0
) -> Iterator[Meter]:
    """Give a `Meter` of ``total`` rows, drawn on ``stream`` while the block runs.

    ``what`` names the rows ("accounts"). ``already`` of the total were done by whoever began the run.
    """
    left = None if total is None else max(0, total - already)
    if is_silent:
        yield Meter(left, _draw_nothing)
    elif stream.isatty():
        with _bar(stream) as bar:
            task = bar.add_task(what, total=left, rate="", failed=0)
            yield Meter(left, lambda meter, _: bar.update(task, **_figures(meter)))
    else:
        meter = Meter(left, _Lines(stream, what))
        try:
            yield meter
        finally:
            meter.close()


def _bar(stream: TextIO) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("[red]{task.fields[failed]} failed"),
        TimeRemainingColumn(),
        console=Console(file=stream),
    )


def _draw_nothing(meter: Meter, is_last: bool) -> None:
    pass


def _figures(meter: Meter) -> dict[str, Any]:
    return {"completed": meter.done, "rate": f"{meter.rate:,.0f}/s", "failed": meter.failed}


class _Lines:
    """Writes a line now and then, and one at the end."""

    def __init__(self, stream: TextIO, what: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._what, self._clock = stream, what, clock
        self._next_at = clock() + _LINE_EVERY_SECONDS

    def __call__(self, meter: Meter, is_last: bool) -> None:
        now = self._clock()
        if now < self._next_at and not is_last:
            return
        self._next_at = now + _LINE_EVERY_SECONDS
        of = "" if meter.total is None else f" of {meter.total:,}"
        line = f"{meter.done:,}{of} {self._what}, {meter.rate:,.0f} a second, {meter.failed:,} failed"
        if not is_last and (seconds := meter.remaining_seconds) is not None:
            line += f", {timedelta(seconds=round(seconds))} left"
        print(line, file=self._stream, flush=True)
