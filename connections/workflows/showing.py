"""What may be shown of inputs and results: their shape, numbers and ids; other text may be anybody's."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["REDACTED", "redact"]

REDACTED = "[redacted]"
_SHOWN_NAMES = re.compile(r"(?i)(?:.*_)?(?:id|sid|status|state|type|mode|currency|redacted|ts)")
_HIDDEN_NAMES = re.compile(r"(?i).*(?:secret|token|password|session|credential|client).*")
_SHOWN_VALUES = re.compile(r"[\w.:/+-]{1,80}")
_MOST_ITEMS = 50


def redact(value: Any, name: str = "") -> Any:
    """Return a JSON value of which text is masked, unless its name says that it is an id or a state."""
    if isinstance(value, dict):
        return {key: redact(item, key) for key, item in list(value.items())[:_MOST_ITEMS]}
    if isinstance(value, list):
        return [redact(item, name) for item in value[:_MOST_ITEMS]]
    if isinstance(value, str) and not _may_be_shown(name, value):
        return REDACTED
    return value


def _may_be_shown(name: str, value: str) -> bool:
    is_named = _SHOWN_NAMES.fullmatch(name) and not _HIDDEN_NAMES.fullmatch(name)
    return bool(is_named and _SHOWN_VALUES.fullmatch(value))
