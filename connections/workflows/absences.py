"""The database or an encryption key that is away for a moment: then a run waits, and nothing has failed."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from django.db import InterfaceError, OperationalError

from external_apis.database_connections import give_back_database_connections
from external_apis.errors import RetiredKey, UnknownKey

__all__ = ["WAIT", "Postponed", "is_away", "patiently"]

WAIT = timedelta(seconds=10)
"""When to look again."""
_PATIENCE_SECONDS, _PAUSE_SECONDS = 10.0, 0.5
_DATABASE = (OperationalError, InterfaceError)

_Done = TypeVar("_Done")


class Postponed(BaseException):
    """Leaves a step or a body for what is away; not for them to catch. ``may_have_happened`` tells of the step."""

    def __init__(self, error: Exception, *, may_have_happened: bool = False) -> None:
        super().__init__()
        self.error, self.may_have_happened = error, may_have_happened


def is_away(error: Exception) -> bool:
    """Whether an error means that something of our own is away, and may come back. What is damaged does not."""
    return isinstance(error, (*_DATABASE, UnknownKey, RetiredKey))


def patiently(act: Callable[[], _Done]) -> _Done:
    """Use the database outside of a transaction, with another connection when that is lost, for up to ten seconds.

    Raises Django's database errors after that: half a lease is left.
    """
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return act()
        except _DATABASE:
            if time.monotonic() > until:
                raise
        give_back_database_connections()
        time.sleep(_PAUSE_SECONDS)
