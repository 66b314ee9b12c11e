"""What is kept of connections for while the server is away, and what is known since then and goes before it.

All of it belongs to one installation and key (`Server.asker`). A refusal leaves a mark with its time under what was
asked for. A copy counts only if it was asked for after every mark on any of its own names, so that neither another
spelling, nor somebody slower who writes an older answer behind the refusal, brings back what is over.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from connections.remote.sealed_copy import SealedCopy

__all__ = ["Keeping", "Secrets"]

logger = logging.getLogger(__name__)

_CLOCK_SKEW_SECONDS = 60.0
_WHOLE_KEY = "*"  # no reference is that


@dataclass(frozen=True, slots=True, repr=False)
class Secrets:
    """A connection's values by name; ``name`` is both slugs. Printed it shows none of them."""

    id: str
    name: str
    values: Mapping[str, Any]
    expires_at: str | None

    def __repr__(self) -> str:
        return f"<Secrets of {self.name}>"


class Keeping:
    """What is kept of one reference. Nothing here raises: a folder that is of no use keeps nobody from an answer."""

    def __init__(self, copy: SealedCopy, asker: str, reference: str, environment: str | None) -> None:
        self._copy, self._asker, self._reference, self._environment = copy, asker, reference, environment

    def now(self) -> float:
        """Return the time by which a request that is about to be sent is told from a refusal."""
        return self._copy.now()

    def keep(self, found: Secrets, asked_at: float) -> None:
        """Keep an answer that was asked for at a time."""
        content = {"at": asked_at, "id": found.id, "name": found.name, "expires_at": found.expires_at}
        if asked_at > self._over_since(content):
            self._try("be written", lambda: self._copy.write(self._entry, content | {"values": dict(found.values)}))

    def find(self, most_seconds: float) -> Secrets | None:
        """Return what was asked for at most so many seconds ago, unless its token has ended or it is over."""
        kept = self._copy.read(self._entry)
        if kept is None:
            return None
        if kept["at"] <= self._over_since(kept):
            self._try("be deleted", lambda: self._copy.delete(self._entry))
            return None
        is_young = -_CLOCK_SKEW_SECONDS <= self.now() - kept["at"] <= most_seconds
        if not is_young or _has_ended(kept["expires_at"], self.now()):
            return None
        return Secrets(kept["id"], kept["name"], kept["values"], kept["expires_at"])

    def bury(self, *, connection_id: str | None = None, is_whole_key: bool = False) -> None:
        """Note that the server refuses what was asked for, or all that this key asks for, and delete what is kept."""
        kept = self._copy.read(self._entry) or {}
        also = (connection_id or kept.get("id"), _WHOLE_KEY if is_whole_key else None)
        names: set[str] = {self._reference, *filter(None, also)}
        over = {"at": self.now()}
        is_marked = [self._try("be marked", partial(self._copy.write, self._mark(name), over)) for name in names]
        is_deleted = self._try("be deleted", lambda: self._copy.delete(self._entry))
        if not (all(is_marked) or is_deleted):
            logger.error(
                "What is kept of %s is over, and can be neither deleted nor marked: it would stand in when the server "
                "is away. Delete %r by hand.",
                self._reference,
                self._copy,
            )

    def _over_since(self, kept: Mapping[str, Any]) -> float:
        """Return the time of the last refusal of a copy under any of its names."""
        names = {self._reference, kept["id"], kept["name"], kept["name"].partition("/")[0], _WHOLE_KEY}
        return max(self._refused_at(self._mark(name)) for name in names)

    def _refused_at(self, mark: str) -> float:
        found = self._copy.read(mark)
        if found is None:
            # One that cannot be read was not made for nothing.
            return float("inf") if self._copy.has(mark) else float("-inf")
        return float(found["at"])

    @property
    def _entry(self) -> str:
        return json.dumps(["secrets", self._asker, self._reference, self._environment])

    def _mark(self, name: str) -> str:
        # An id is one connection's in whatever environment, and so is a key.
        environment = None if name == _WHOLE_KEY or name.startswith("conn_") else self._environment
        return json.dumps(["over", self._asker, name, environment])

    def _try(self, what: str, work: Callable[[], None]) -> bool:
        try:
            work()
        except OSError as error:
            logger.warning("The local copy of %s cannot %s (%s).", self._reference, what, type(error).__name__)
            return False
        return True


def _has_ended(expires_at: str | None, now: float) -> bool:
    if expires_at is None:
        return False
    try:
        return datetime.fromisoformat(expires_at).timestamp() <= now
    except ValueError:
        return True
