"""JSON of strangers written out again, within bounds: of a few kilobytes, deeply nested, indents make gigabytes."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["MOST_LEVELS", "is_shallow", "write"]

MOST_LEVELS = 20
"""Webhooks have half as many."""


def is_shallow(value: Any, levels: int = MOST_LEVELS) -> bool:
    """Whether lists and objects are nested in no more than so many levels."""
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(is_shallow(item, levels - 1) for item in inner if isinstance(item, dict | list))


def write(
    value: Any, longest: int, *, indent: int | None, separators: tuple[str, str], ensure_ascii: bool = False
) -> str | None:
    """Return the JSON of a value that `is_shallow`; None where it becomes longer than ``longest`` characters.

    Longer ones are given up as they grow, and are never made whole.
    """
    encoder = json.JSONEncoder(indent=indent, separators=separators, ensure_ascii=ensure_ascii)
    pieces: list[str] = []
    length = 0
    for piece in encoder.iterencode(value):
        length += len(piece)
        if length > longest:
            return None
        pieces.append(piece)
    return "".join(pieces)
