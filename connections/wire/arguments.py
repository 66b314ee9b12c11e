"""The refusal of an argument that no call can be made of."""

from __future__ import annotations

from external_apis.errors import InvalidInput

__all__ = ["refuse"]


def refuse(path: str, message: str) -> InvalidInput:
    """Return the error for a call's argument; the message never quotes the value."""
    return InvalidInput(f"Invalid call: {path} {message}.", details={"errors": [{"path": path, "message": message}]})
