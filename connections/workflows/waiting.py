"""Requests that wait for the end of a run: a few of a process's at a time, as each holds one of its threads."""

from __future__ import annotations

import threading

from connections.models import WorkflowRun
from connections.workflows.runs import find, wait
from external_apis.tenancy import Scope

__all__ = ["LONGEST_WAIT_SECONDS", "wait_in_turn"]

LONGEST_WAIT_SECONDS = 25
_MOST_AT_ONCE = 4
_places = threading.BoundedSemaphore(_MOST_AT_ONCE)


def wait_in_turn(run_id: str, seconds: float, scope: Scope) -> WorkflowRun:
    """Return a run once it has finished, or as it is after so many seconds; at once where too many wait already.

    Raises `NotFound`.
    """
    if not seconds or not _places.acquire(blocking=False):
        return find(run_id, scope)
    try:
        return wait(run_id, seconds, scope)
    finally:
        _places.release()
