"""Brings answers that are in the spool and not in the database where they belong (see `late` for which those are)."""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from django.db import Error as DatabaseError

from connections.oauth.late import try_to_adopt
from connections.oauth.spool import files, own_spool

__all__ = ["Recovered", "recover", "recover_at_start"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Recovered:
    """How many spooled answers were stored, found to be of no use any more, and kept for another time."""

    applied: int = 0
    dropped: int = 0
    kept: int = 0


def recover() -> Recovered:
    """Apply what processes of this machine left in the spool; repeat it at will.

    Raises Django's errors of a database that is away. What it has against one answer holds up no other.
    """
    counts = {"applied": 0, "dropped": 0, "kept": 0}
    with files() as found:
        for file in found:
            is_settled = True
            for entry in file.entries():
                verdict = try_to_adopt(entry, "recovery", is_left=file.is_left)
                counts[verdict] += 1
                if verdict == "kept":
                    is_settled = False
                else:
                    own_spool().settle([entry])
            if is_settled:
                file.remove()
    if counts["applied"]:
        log.warning("the spool was applied", **counts)
    return Recovered(**counts)


def recover_at_start() -> None:
    """The same for a process that starts: a database that is away is left to the next sweep."""
    try:
        recover()
    except DatabaseError as error:
        log.warning("the spool waits for the database", error=type(error).__name__)
