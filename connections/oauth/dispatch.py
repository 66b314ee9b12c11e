"""Turns at many grants at once: threads are shared out over token endpoints, and no row stands in another's way.

What has been claimed and not sent is handed back: when the worker is to stop, when an endpoint is left in peace, when
time is up, and when something goes wrong. So only what is under way can be in doubt after a stop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import suppress

import structlog
from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError

from connections.oauth.endpoints import Admission, Endpoints
from connections.oauth.leases import CALL_SECONDS, LEASE, Lease, release
from connections.oauth.settlement import Facts, Finding, Settlement
from connections.oauth.tokens import Tokens
from connections.oauth.turns import Turn, ask, load, spool, store
from external_apis.database_connections import give_back_database_connections
from external_apis.errors import ApiManagerError

__all__ = ["THREADS", "run_many"]

log = structlog.get_logger(__name__)

THREADS = 8
_STORED_AT_A_TIME, _STORED_EVERY_SECONDS = 200, 1.0
_SYNCED_AT_A_TIME, _SYNCED_EVERY_SECONDS = 16, 0.02
"""How many answers share a sync of the disk, and how long the first of them waits for the others."""
_SENDING_SECONDS = LEASE.total_seconds() / 2
"""From the claim on: what is sent later might be answered when somebody else has the lease."""
_SILENT_SECONDS = CALL_SECONDS / 2
"""What fails after so long has cost a thread's time, whatever its reason."""


def run_many(
    leases: Sequence[Lease], cause: str, executor: Executor, endpoints: Endpoints, is_over: Callable[[], bool]
) -> list[Settlement]:
    """Give every lease its turn; return how each ended, less those that were lost. Nothing is sent once ``is_over``.

    Raises Django's errors of a database that is away; answers that came are in the spool by then.
    """
    started = time.monotonic()
    turns = _load_each(leases, cause)
    give_back_database_connections()
    answered = [turn for turn in turns if turn.answer is not None]
    waiting = [turn for turn in turns if turn.answer is None]
    flying: dict[Future[Turn], Turn] = {}
    landed: list[Turn] = []
    ended: list[Settlement] = []
    storing: list[Turn] = []
    stored_at = synced_at = started
    try:
        while waiting or flying or landed or answered:
            if is_over() or time.monotonic() - started > _SENDING_SECONDS:
                answered += [_unsent(turn, Finding.NOT_SENT) for turn in waiting]
                waiting = []
            landed += _land(flying, endpoints, _SYNCED_EVERY_SECONDS if landed else _STORED_EVERY_SECONDS)
            waiting, refused = _send(waiting, flying, executor, endpoints)
            answered += refused
            is_time = time.monotonic() - synced_at >= _SYNCED_EVERY_SECONDS
            if is_time or not flying or len(landed) >= _SYNCED_AT_A_TIME:
                spool(landed, cause)
                answered, landed = answered + landed, []
                synced_at = time.monotonic()
            is_time = time.monotonic() - stored_at >= _STORED_EVERY_SECONDS
            if not (waiting or flying or landed) or len(answered) >= _STORED_AT_A_TIME or (answered and is_time):
                storing, answered = answered, []
                ended += _store_each(storing, cause)
                storing = []
                stored_at = time.monotonic()
    except BaseException:
        # What those under way are answered is kept, and the rest handed back as far as the database takes it.
        while flying:
            landed += _land(flying, endpoints, None)
        spool(landed, cause)
        with suppress(DatabaseError):
            release([turn.lease for turn in [*waiting, *filter(_is_unspent, [*landed, *answered, *storing])]])
        raise
    return ended


def _load_each(leases: Sequence[Lease], cause: str) -> list[Turn]:
    """Load all at once, or each by itself where one cannot be read; nothing was sent if the database is away."""
    try:
        return load(leases, cause)
    except (OperationalError, InterfaceError):
        with suppress(DatabaseError):
            release(list(leases))
        raise
    except Exception as error:
        if len(leases) > 1:
            return [turn for lease in leases for turn in _load_each([lease], cause)]
        log.exception("a grant could not be loaded", connection_id=leases[0].connection_id)
        unread = ApiManagerError(f"The connection could not be read ({type(error).__name__}).")
        return [Turn(leases[0], Facts(None, ""), answer=unread)]


def _is_unspent(turn: Turn) -> bool:
    """Whether the provider has done nothing, so that the same refresh token may be sent again."""
    is_told = turn.answer is not None and not isinstance(turn.answer, Tokens)
    return is_told and not getattr(turn.answer, "may_have_happened", False)


def _send(
    waiting: Sequence[Turn], flying: dict[Future[Turn], Turn], executor: Executor, endpoints: Endpoints
) -> tuple[list[Turn], list[Turn]]:
    """Send what may go now; return what waits, and what is not to be sent for a while."""
    still, refused = [], []
    for turn in waiting:
        admission = endpoints.admit(turn.endpoint) if len(flying) < THREADS else Admission.WAIT
        if admission is Admission.GO:
            flying[executor.submit(ask, turn)] = turn
        elif admission is Admission.WAIT:
            still.append(turn)
        else:
            refused.append(_unsent(turn, Finding.SILENT))
    return still, refused


def _land(flying: dict[Future[Turn], Turn], endpoints: Endpoints, seconds: float | None) -> list[Turn]:
    done, _ = wait(flying, timeout=seconds, return_when=FIRST_COMPLETED)
    landed = [flying.pop(future) for future in done]
    for turn in landed:
        is_error = isinstance(turn.answer, ApiManagerError)
        endpoints.note(turn.endpoint, is_silent=is_error and turn.seconds >= _SILENT_SECONDS)
    return landed


def _unsent(turn: Turn, finding: Finding) -> Turn:
    turn.answer = finding
    return turn


def _store_each(turns: Sequence[Turn], cause: str) -> list[Settlement]:
    """Store all at once, or each by itself where the database has something against one of them."""
    try:
        return store(turns, cause)
    except (OperationalError, InterfaceError):
        raise
    except Exception:
        if len(turns) > 1:
            return [settlement for turn in turns for settlement in _store_each([turn], cause)]
        # Tokens are tried again from the spool. Without any its lease runs out, which says that it is in doubt.
        log.exception("the end of a turn could not be stored", connection_id=turns[0].lease.connection_id)
        return []
