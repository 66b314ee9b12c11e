"""Patterns of event types: ``invoice.paid``, ``invoice.*``, ``*``."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

__all__ = ["matches_any"]


def matches_any(patterns: Iterable[str], types: Iterable[str]) -> bool:
    """Whether a pattern fits one of an event's types; * stands for anything, also for no type at all."""
    named = tuple(types) or ("",)
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in named)
