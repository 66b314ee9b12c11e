"""What may be shown of inputs and results: their shape, numbers and ids; other text may be anybody's."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from connections.models import WorkflowRun
from external_apis.errors import VaultError

__all__ = ["REDACTED", "redact", "shown_input", "shown_result", "shown_steps"]

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


def shown_input(run: WorkflowRun) -> Any:
    """Return what a run was started with, redacted; None where it does not open."""
    return _opened(run, "input", "json")


def shown_result(run: WorkflowRun) -> Any:
    """Return what a run came to, redacted; None where it came to nothing, or that does not open."""
    return _opened(run, "result", "json")


def shown_steps(run: WorkflowRun) -> list[dict[str, Any]]:
    """Return the steps that have come to their end, in order, with inputs and results redacted."""
    names = (
        "position", "name", "state", "error_code", "error_message", "tries", "may_have_happened", "started_at",
        "finished_at", "undo", "undo_error", "undone_at",
    )  # fmt: skip
    return [
        {name: getattr(row, name) for name in names}
        | {"input": _opened(row, "contents", "input"), "result": _opened(row, "contents", "result")}
        for row in run.steps.all()
    ]


def _opened(row: Any, column: str, name: str) -> Any:
    try:
        values: Mapping[str, str] = getattr(row, column)
        return redact(json.loads(values[name])) if name in values else None
    except VaultError:
        return None


def _may_be_shown(name: str, value: str) -> bool:
    is_named = _SHOWN_NAMES.fullmatch(name) and not _HIDDEN_NAMES.fullmatch(name)
    return bool(is_named and _SHOWN_VALUES.fullmatch(value))
