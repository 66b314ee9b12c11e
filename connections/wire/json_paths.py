"""Dotted paths into parsed JSON, as configurations name them: ``data.items``, ``data.-1.id``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["look_up"]

_INDEX = re.compile(r"-?[0-9]{1,6}")


def look_up(data: Any, path: str) -> Any:
    """Return what stands at a path, None where nothing does; a number counts into a list, from its end if negative."""
    for part in path.split("."):
        if isinstance(data, Mapping):
            data = data.get(part)
        elif isinstance(data, list) and _INDEX.fullmatch(part) and -len(data) <= int(part) < len(data):
            data = data[int(part)]
        else:
            return None
    return data
