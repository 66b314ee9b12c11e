"""JSON from outside: parsed strictly, and refused where PostgreSQL could not store it."""

from __future__ import annotations

import json
import math
from typing import Any

from external_apis.errors import InvalidInput

MAX_DEPTH = 32


def load(body: bytes) -> Any:
    """Parse a JSON body. Raises `InvalidInput` for what is not JSON or could not be stored."""
    try:
        # Decoded here: the parser would guess at UTF-16 and UTF-32 as well (RFC 8259 knows UTF-8 alone).
        value = json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_no_constant)
    except RecursionError:
        raise InvalidInput(f"The body is nested more than {MAX_DEPTH} levels deep.") from None
    except UnicodeDecodeError:
        raise InvalidInput("The body is not UTF-8.") from None
    except json.JSONDecodeError as error:
        raise InvalidInput(f"The body is not JSON: {error.msg} at line {error.lineno} column {error.colno}.") from None
    except ValueError as error:
        # Python's own limit on the digits of an integer among others.
        raise InvalidInput(f"The body is not JSON: {error}") from None
    check(value)
    return value


def check(value: Any, path: str = "") -> None:
    """Refuse NUL bytes, lone surrogates, infinite numbers and deep nesting anywhere in a value.

    Raises `InvalidInput` with the path.
    """
    _check(value, path, 0)


def _check(value: Any, path: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InvalidInput(f"The body is nested more than {MAX_DEPTH} levels deep.")
    if isinstance(value, str):
        _check_text(value, path)
    elif isinstance(value, float):
        # Python reads 1e400 as infinity.
        if not math.isfinite(value):
            raise _refused(path, "is not a finite number")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_text(key, path)
            _check(item, f"{path}.{key}" if path else key, depth + 1)
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            _check(item, f"{path}.{position}" if path else str(position), depth + 1)


def _check_text(text: str, path: str) -> None:
    problem = None
    if "\0" in text:
        problem = "contains a NUL byte"
    elif not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        problem = "contains a lone surrogate"
    if problem:
        raise _refused(path, problem)


def _refused(path: str, problem: str) -> InvalidInput:
    place = (path or "(body)")[:200]
    return InvalidInput(f"{place}: {problem}", details={"errors": [{"path": place, "message": problem}]})


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return result


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")
