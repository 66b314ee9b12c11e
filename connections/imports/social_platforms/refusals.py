"""Why an old row is not imported: a reason that is counted, and a message for that row alone."""

from __future__ import annotations

from external_apis.errors import ApiManagerError, InvalidInput

__all__ = ["reason_of", "refused"]

INVALID = "values that cannot be imported"


def refused(reason: str, message: str) -> InvalidInput:
    """Return an error of a reason that many rows may share; the message holds no secret."""
    return InvalidInput(message, details={"reason": reason})


def reason_of(error: ApiManagerError) -> str:
    """Return what an error is counted under."""
    return str(error.details.get("reason", INVALID))
