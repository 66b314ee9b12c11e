"""What a plan may show of a secret."""

from __future__ import annotations

__all__ = ["masked"]

_SHORTEST_HINTED = 20


def masked(value: str) -> str:
    """Return the last four characters of a long secret, and of a short one nothing."""
    return f"…{value[-4:]}" if len(value) >= _SHORTEST_HINTED else "••••"
