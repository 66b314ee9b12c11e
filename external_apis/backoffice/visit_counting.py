"""What is counted of visits, at no database write and no round trip for a page.

A page adds to this process's memory; a thread hands the sums to Valkey every second (and at exit), and the roll-up
takes them from there into the database. A killed process loses at most a second of counts. Every hand-over carries an
id that Valkey remembers, so that one whose answer was lost is not counted twice. While Valkey is away the sums are kept
here, up to a bound.
"""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass, field
from typing import TypeVar

from django.http import HttpResponseBase

from external_apis.backoffice import visit_store
from external_apis.backoffice.models import VisitKind
from external_apis.backoffice.visit_store import OTHER, QUARTER_SECONDS, Counted
from external_apis.handovers import Handover

__all__ = ["Visit", "flush", "mark", "record", "visit_of"]

_MOST_SUMS = 5_000
_LONGEST_PATH = 200

_Response = TypeVar("_Response", bound=HttpResponseBase)


@dataclass(frozen=True, slots=True)
class Visit:
    """To which page: its path, without anything of a person or a secret in it, and the tenant whose page it is."""

    path: str
    tenant_id: str | None = None


def mark(response: _Response, visit: Visit) -> _Response:
    """Have the middleware count this answer as a visit to a page, if it is one of a person's."""
    response.visit = visit  # type: ignore[attr-defined]
    return response


def visit_of(response: HttpResponseBase) -> Visit | None:
    """Return what an answer was marked as."""
    return getattr(response, "visit", None)


@dataclass(slots=True)
class _Sums:
    """``id`` is given when they are handed over."""

    id: str = ""
    numbers: dict[Counted, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.numbers)

    def add(self, counted: Counted, number: int = 1) -> None:
        if counted not in self.numbers and len(self.numbers) >= _MOST_SUMS:
            counted = counted._replace(name=OTHER if counted.name else "")
        self.numbers[counted] = self.numbers.get(counted, 0) + number


class _Recorder(Handover[_Sums]):
    """This process's counts that Valkey does not have yet."""

    what, id_prefix, every_seconds = "visits", "vis", 1.0

    def record(self, visit: Visit, referrer: str, at: float) -> None:
        tenant, quarter = visit.tenant_id or "", int(at // QUARTER_SECONDS)
        with self._lock:
            self._sums.add(Counted(tenant, quarter, VisitKind.TOTAL.value, ""))
            self._sums.add(Counted(tenant, quarter, VisitKind.PATH.value, visit.path[:_LONGEST_PATH]))
            if referrer:
                self._sums.add(Counted(tenant, quarter, VisitKind.REFERRER.value, referrer))
        self._wake()

    def _begin(self) -> _Sums:
        return _Sums()

    def _send(self, batch: _Sums) -> None:
        visit_store.add(batch.id, batch.numbers)


_recorder = _Recorder()


def record(visit: Visit, referrer: str, *, at: float) -> None:
    """Count one visit at ``at`` (seconds since 1970) from a host, or from none that counts (an empty ``referrer``).

    Never fails and never waits for Valkey.
    """
    _recorder.record(visit, referrer, at)


def flush() -> bool:
    """Hand this process's counts to Valkey now; False when it is away."""
    return _recorder.flush()


def _start_afresh() -> None:
    """A forked child has neither its parent's thread nor a claim to its parent's counts."""
    global _recorder  # noqa: PLW0603
    _recorder = _Recorder()


os.register_at_fork(after_in_child=_start_afresh)
atexit.register(flush)
