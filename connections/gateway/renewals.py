"""Has the leases of keyed calls go on for as long as their answers are on the way, however slowly anybody reads."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import structlog
from django.db import DatabaseError

from external_apis.database_connections import give_back_database_connections

if TYPE_CHECKING:
    from connections.idempotent_calls import Claim

__all__ = ["keep", "let_go"]

log = structlog.get_logger(__name__)

_EVERY_SECONDS = 30.0
_LEASE_SECONDS = 3 * _EVERY_SECONDS


class _Keeper:
    """One thread for all calls of this process; it ends when there are none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._extending = threading.Lock()
        self._claims: set[Claim] = set()
        self._thread: threading.Thread | None = None
        self._is_needless = threading.Event()

    def keep(self, claim: Claim) -> None:
        _extend(claim)
        with self._lock:
            self._claims.add(claim)
            self._is_needless.clear()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="idempotency-leases", daemon=True)
                self._thread.start()

    def let_go(self, claim: Claim) -> None:
        # After this nothing extends it: what its holder writes next is the end of it.
        with self._extending, self._lock:
            self._claims.discard(claim)
            if not self._claims:
                self._is_needless.set()

    def _run(self) -> None:
        while True:
            self._is_needless.wait(_EVERY_SECONDS)
            with self._lock:
                claims = list(self._claims)
                if not claims:
                    self._thread = None
                    return
            for claim in claims:
                with self._extending:
                    if claim in self._claims:
                        _extend(claim)


_keeper = _Keeper()


def keep(claim: Claim) -> None:
    """Give a call 90 seconds from now on, again and again until `let_go`. A database that fails costs one of these."""
    _keeper.keep(claim)


def let_go(claim: Claim) -> None:
    """End that; how the call ended is the caller's to write down."""
    _keeper.let_go(claim)


def _extend(claim: Claim) -> None:
    try:
        claim.extend(_LEASE_SECONDS)
    except DatabaseError as error:
        log.warning("an idempotent call's lease was not extended", error=type(error).__name__)
    finally:
        give_back_database_connections()


def _start_afresh() -> None:
    """A forked child has neither its parent's thread nor its calls."""
    global _keeper  # noqa: PLW0603
    _keeper = _Keeper()


os.register_at_fork(after_in_child=_start_afresh)
