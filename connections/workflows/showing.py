"""What may be shown of inputs and results: their shape, numbers and ids; other text may be anybody's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from connections.models import RunState, WorkflowRun, WorkflowStep
from external_apis.errors import VaultError

__all__ = ["REDACTED", "redact", "shown_current_step", "shown_input", "shown_result", "shown_steps"]

REDACTED = "[redacted]"
_SHOWN_NAMES = re.compile(r"(?:.*_)?(?:id|sid|status|state|type|mode|currency|redacted|ts)")
_SHOWN_VALUES = re.compile(r"[\w.:/+-]{1,80}")
# Digits that may count people, cards or telephones; not those within what is random, or a time.
_LONG_NUMBER = re.compile(r"\d(?:[ .-]?\d){6,}")
_RANDOM_ID = re.compile(
    r"[a-z]{2,10}_(?=[0-9]*[A-Za-z])[0-9A-Za-z]{14,30}|[A-Z]{2}[0-9a-f]{32}|\d{10}\.\d{6}"
    r"|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
)
# Letters mixed with digits at such a length open something, unless they are an id as above; so do addresses.
_OPENS = re.compile(r"(?=[^/.:]*\d)(?=[^/.:]*[A-Za-z])[\w+-]{20,}|eyJ[\w-]{10,}|://|/.*/")
_SECRET_PREFIX = re.compile(r"(?:sk|rk|whsec|gh[opsru]|xox[a-z]|glpat|shp[a-z]{2})[_-]|A[KS]IA[0-9A-Z]{12}")
# Words of a name are parted; a token's characters are not.
_TOKEN = re.compile(r"(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[0-9A-Za-z]{20,}|eyJ[\w-]{10,}")
_HIDDEN_PARTS = ("secret", "token", "password", "session", "credential", "client", "mail", "phone", "passport")
_HIDDEN_WORDS = frozenset(
    {"account", "birth", "birthday", "born", "card", "csc", "cvc", "cvv", "dob", "iban", "identity", "mobile"}
    | {"national", "otp", "pan", "passcode", "pin", "pincode", "security", "social", "ssn", "tan", "tax", "vat"}
    | {"ccv", "cid", "cv", "cvn", "mfa", "pass", "passwd", "pins", "pwd", "totp", "verification"}
)
_COUNTING_WORDS = frozenset(["amount", "bytes", "count", "position", "quantity", "size", "total", "tries"])
_MOST_DIGITS, _MOST_DIGITS_OF_CODES = 6, 3
_SHOWN_KEYS = re.compile(r"[\w-]{1,60}")
_MOST_ITEMS, _DEEPEST = 50, 20
_LEFT_OUT = "\u2026"


def redact(value: Any, name: str = "", *, is_hidden: bool = False, depth: int = 0) -> Any:
    """Return a JSON value in which text is masked unless its name says that it is an id or a state, numbers of more
    than six digits (of codes: three) unless their name counts something, names that are none, and all that hidden names
    have. What lies more than twenty levels deep is left out."""
    if isinstance(value, dict | list) and depth >= _DEEPEST:
        return _LEFT_OUT
    words = _words(name)
    is_hidden = is_hidden or _is_hidden(words)
    if isinstance(value, dict):
        items = list(value.items())[:_MOST_ITEMS]
        shown = [redact(item, key, is_hidden=is_hidden, depth=depth + 1) for key, item in items]
        return dict(zip(_keys(items), shown, strict=True))
    if isinstance(value, list):
        return [redact(item, name, is_hidden=is_hidden, depth=depth + 1) for item in value[:_MOST_ITEMS]]
    if value is None or isinstance(value, bool):
        return value
    if is_hidden:
        return REDACTED
    if isinstance(value, str):
        return value if _is_text_shown("_".join(words), value) else REDACTED
    digits = "".join(letter for letter in str(value) if letter.isdigit())
    is_counted = bool(_COUNTING_WORDS & set(words)) and not _is_card(digits)
    most = _MOST_DIGITS_OF_CODES if "code" in words else _MOST_DIGITS
    return value if len(digits) <= most or is_counted else REDACTED


def shown_input(run: WorkflowRun) -> Any:
    """Return what a run was started with, redacted; None where it does not open."""
    return _opened(run, "input", "json")


def shown_result(run: WorkflowRun) -> Any:
    """Return what a run came to, redacted; None where it came to nothing, or that does not open."""
    return _opened(run, "result", "json")


def shown_current_step(run: WorkflowRun, steps: Iterable[WorkflowStep]) -> dict[str, Any] | None:
    """Return the step that is being done or undone, or waits for its next attempt; None where that is not known (yet).

    ``steps`` are all those that have come to their end.
    """
    row = next((one for one in steps if one.position == run.step_position), None)
    is_undone = run.state == RunState.REVERTING
    if not run.step_name or run.state not in (RunState.OPEN, RunState.REVERTING) or (row is not None) is not is_undone:
        return None
    if row is not None and row.undo:
        return None
    return {
        "position": run.step_position,
        "name": run.step_name,
        "is_being_undone": is_undone,
        "tries": run.tries,
        "started_at": run.step_began_at,
        "error_code": "" if is_undone else run.error_code,
        "error_message": row.undo_error if row is not None else run.error_message,
        "next_attempt_at": run.due_at if run.fence == run.handed_back else None,
    }


def shown_steps(steps: Iterable[WorkflowStep]) -> list[dict[str, Any]]:
    """Return steps that have come to their end with inputs and results redacted."""
    names = (
        "position", "name", "state", "error_code", "error_message", "tries", "may_have_happened", "started_at",
        "finished_at", "undo", "undo_error", "undone_at",
    )  # fmt: skip
    return [
        {name: getattr(row, name) for name in names}
        | {"input": _opened(row, "contents", "input"), "result": _opened(row, "contents", "result")}
        for row in steps
    ]


def _opened(row: Any, column: str, name: str) -> Any:
    try:
        values: Mapping[str, str] = getattr(row, column)
        return redact(json.loads(values[name])) if name in values else None
    except VaultError:
        return None
    except RecursionError:
        return _LEFT_OUT


def _words(name: str) -> list[str]:
    """A name's words in small letters: ``cardPin`` and ``card-pin`` have the same."""
    return re.findall(r"[^\W_]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower())


def _is_hidden(words: list[str]) -> bool:
    return any(word.rstrip("0123456789") in _HIDDEN_WORDS for word in words) or any(
        part in word for word in words for part in _HIDDEN_PARTS
    )


def _is_text_shown(name: str, value: str) -> bool:
    if not _SHOWN_NAMES.fullmatch(name) or not _SHOWN_VALUES.fullmatch(value):
        return False
    if _SECRET_PREFIX.match(value) and "..." not in value:  # which is how ours are shown
        return False
    return not (_LONG_NUMBER.search(value) or _OPENS.search(value)) or _RANDOM_ID.fullmatch(value) is not None


def _is_card(digits: str) -> bool:
    """Whether a number may be a payment card's: 13 to 19 digits, the last of them a check digit (ISO/IEC 7812-1)."""
    doubled = (int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits)))
    return 13 <= len(digits) <= 19 and sum(number // 10 + number % 10 for number in doubled) % 10 == 0


def _keys(items: list[tuple[str, Any]]) -> list[str]:
    """Names as they are shown; those that are masked are numbered."""
    found, masked = [], 0
    for key, _ in items:
        if _SHOWN_KEYS.fullmatch(key) and not any(one.search(key) for one in (_LONG_NUMBER, _SECRET_PREFIX, _TOKEN)):
            found.append(key)
        else:
            masked += 1
            found.append(f"{REDACTED} {masked}")
    return found
