"""Takes due runs and carries them on in a few threads, whose leases it extends while they are at it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from queue import Empty, SimpleQueue

from django.db import DatabaseError

from connections import stopping
from connections.due_work import claim
from connections.models import WorkflowRun
from connections.workflows.engine import Unstored, carry_on
from connections.workflows.journal import Overtaken, extend
from external_apis import request_context
from external_apis.database_connections import give_back_database_connections

__all__ = ["sweep"]

logger = logging.getLogger(__name__)

LEASE = timedelta(seconds=20)
THREADS = 8
_SWEEP_SECONDS, _BEAT_SECONDS = 20.0, 5.0
_ROOM_SECONDS, _NOTHING_DUE_SECONDS, _AWAY_SECONDS, _IDLE_SECONDS = 0.02, 0.25, 1.0, 0.1


def _stay() -> None:
    """Leave nothing to others."""


def sweep(*, seconds: float = _SWEEP_SECONDS, leave: Callable[[], object] = _stay) -> int:
    """Carry on what is due, the longest overdue first, until nothing is; return how many claims that took.

    After ``seconds``, or when the worker is to stop, runs are handed back as soon as their present steps have ended;
    those that have not are waited for once ``leave`` was called, so that another sweep may begin meanwhile.
    Any number of sweeps at the same time take different runs. Raises Django's database errors where no run is under
    way; a sweep that has some keeps its place, and asks again.
    """
    until, count = time.monotonic() + seconds, 0
    with stopping.watched() as is_told:

        def is_over() -> bool:
            return is_told() or time.monotonic() > until

        crew = _Crew(is_over)
        try:
            while not is_over():
                try:
                    runs = claim(WorkflowRun, crew.room, LEASE) if crew.room else []
                except DatabaseError as error:
                    if not crew.under_way:
                        raise
                    logger.warning("no workflow runs were claimed (%s)", type(error).__name__)
                    give_back_database_connections()
                    crew.wait(_AWAY_SECONDS)
                    continue
                if not runs and not crew.under_way:
                    break
                count += len(runs)
                crew.take(runs)
                crew.wait(_ROOM_SECONDS if runs or not crew.room else _NOTHING_DUE_SECONDS)
        finally:
            give_back_database_connections()  # the one that the sweep may have failed with
            if crew.under_way:
                leave()
            crew.end()
            give_back_database_connections()
    return count


class _Crew:
    """Threads that carry runs on, and the claims under way: a run that is due at once may be claimed again by the same
    sweep before the thread that handed it back has done so much as to say it."""

    def __init__(self, is_over: Callable[[], bool]) -> None:
        self._is_over = is_over
        self._queue: SimpleQueue[WorkflowRun | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._changed = threading.Condition()
        self._beaten_at = time.monotonic()
        self.under_way: dict[tuple[str, int], WorkflowRun] = {}

    @property
    def room(self) -> int:
        """How many more could be carried on at once."""
        return THREADS - len(self.under_way)

    def take(self, runs: list[WorkflowRun]) -> None:
        for run in runs:
            with self._changed:
                self.under_way[run.pk, run.fence] = run
            self._queue.put(run)
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            if len(self._threads) < len(self.under_way):
                thread = threading.Thread(target=self._work, name="workflows", daemon=True)
                thread.start()
                self._threads.append(thread)

    def wait(self, seconds: float) -> None:
        """Wait until all are done, or so long; leases that are to be extended are."""
        with self._changed:
            self._changed.wait_for(lambda: not self.under_way, seconds)
            runs = list(self.under_way.values())
        if runs and time.monotonic() - self._beaten_at > _BEAT_SECONDS:
            self._beaten_at = time.monotonic()
            try:
                extend(runs, LEASE)
            except DatabaseError as error:
                logger.warning("leases of workflow runs were not extended (%s)", type(error).__name__)
            finally:
                give_back_database_connections()  # one that was lost is no use next time either

    def end(self) -> None:
        """Wait for the steps under way; what nobody carries on is left to its lease."""
        while self.under_way and any(thread.is_alive() for thread in self._threads):
            self.wait(1.0)
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            try:
                run = self._queue.get(timeout=_IDLE_SECONDS)
            except Empty:
                give_back_database_connections()
                run = self._queue.get()
            if run is None:
                break
            try:
                _carry_on(run, self._is_over)
            finally:
                with self._changed:
                    del self.under_way[run.pk, run.fence]
                    self._changed.notify()
        give_back_database_connections()


def _carry_on(run: WorkflowRun, is_over: Callable[[], bool]) -> None:
    request_context.start(run.request_id)
    try:
        with request_context.acting(run.started_by or f"workflow:{run.workflow}"):
            carry_on(run, is_over)
    except Overtaken:
        logger.warning("workflow run %s was taken by another worker", run.pk)
    except (Unstored, DatabaseError) as error:
        logger.warning(
            "workflow run %s waits for its lease to end (%s)", run.pk, type(error.__cause__ or error).__name__
        )
        give_back_database_connections()  # it may be one that is lost
    except BaseException as error:
        logger.error("workflow run %s waits for its lease to end (%s)", run.pk, type(error).__name__)  # noqa: TRY400
