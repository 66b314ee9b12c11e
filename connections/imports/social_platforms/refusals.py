"""Why an old row is not imported: a reason that is counted, and a message for that row alone."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from django import db

from external_apis.errors import ApiManagerError, InvalidInput

__all__ = ["of_one_row", "reason_of", "refused"]

INVALID = "values that cannot be imported"
UNFORESEEN = "that nobody has foreseen: see the log"

logger = logging.getLogger(__name__)
_Given = ParamSpec("_Given")
_Found = TypeVar("_Found")


def refused(reason: str, message: str) -> InvalidInput:
    """Return an error of a reason that many rows may share; the message holds no secret."""
    return InvalidInput(message, details={"reason": reason})


def reason_of(error: ApiManagerError) -> str:
    """Return what an error is counted under."""
    return str(error.details.get("reason", INVALID))


def of_one_row(read: Callable[_Given, _Found]) -> Callable[_Given, _Found]:
    """Make whatever goes wrong while one row is read that row's refusal, and not the end of the import for the others.

    What the database raises is no row's. Said of an error are its type and its place: its message may quote a value.
    """

    @wraps(read)
    def reading(*given: _Given.args, **named: _Given.kwargs) -> _Found:
        try:
            return read(*given, **named)
        except (ApiManagerError, db.Error, MemoryError):
            raise
        except Exception as error:
            place, kind = traceback.extract_tb(error.__traceback__)[-1], type(error).__name__
            logger.error("an old row ended in a %s at %s:%s", kind, Path(place.filename).name, place.lineno)  # noqa: TRY400
            raise refused(UNFORESEEN, f"reading it ended in a {kind}") from None

    return reading
