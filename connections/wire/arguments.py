"""What the arguments of a call have to be, and the refusal of one that no call can be made of."""

from __future__ import annotations

from typing import Any

from external_apis.errors import InvalidInput

__all__ = ["METHODS", "check_method", "check_ms", "refuse"]

METHODS = frozenset(("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"))

_LONGEST_MS = 86_400_000


def refuse(path: str, message: str) -> InvalidInput:
    """Return the error for a call's argument; the message never quotes the value."""
    return InvalidInput(f"Invalid call: {path} {message}.", details={"errors": [{"path": path, "message": message}]})


def check_method(method: Any) -> str:
    """Return a method in capitals; raises `InvalidInput`."""
    found = method.upper() if isinstance(method, str) else ""
    if found not in METHODS:
        raise refuse("method", f"is none of {', '.join(sorted(METHODS))}")
    return found


def check_ms(name: str, value: Any) -> int:
    """Return a time in whole milliseconds, at least one; raises `InvalidInput` that names the argument."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= _LONGEST_MS:
        raise refuse(name, "is not a number of milliseconds above 0 and up to a day")
    return max(1, int(value))
