"""What values of the old encryption service look like: whole, within other JSON, and broken."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from connections.imports.social_platforms.spellings import truth
from external_apis import json_input
from external_apis.errors import InvalidInput

__all__ = ["is_broken", "is_unsealed", "sealed_in", "unwrapped"]

_PARTS = ("encrypted", "iv", "authTag")
_PARTS_ELSEWHERE = frozenset({*_PARTS, "ciphertext", "tag", "keyVersion"})
"""Those of the same object as other services, or an older one, called them."""
_MAIN_PARTS = frozenset({"encrypted", "ciphertext", "authTag"})
"""Other things have a tag or an iv as well."""
_JSON_BEGINS = re.compile(r'[\s"\\]*[\[{]')
_PART_IN_TEXT = re.compile(rf'"(?:{"|".join(_PARTS_ELSEWHERE)})\\*"\s*:\s*\\*"')
_NO_TEXT = re.compile(r'[\s"\\]*\[object ')
"""What JavaScript makes of an object that is taken for a text."""


def sealed_in(value: Any) -> Mapping[str, Any] | None:
    """Return the object of the old encryption service that a value is, or that a text writes out; None for others."""
    with suppress(ValueError, RecursionError):
        while isinstance(value, str) and "authTag" in value:  # written out twice by some
            value = json.loads(value)
    return value if isinstance(value, dict) and value.keys() >= {*_PARTS} else None


def unwrapped(value: Any) -> Any:
    """Return the JSON that a text writes out where such objects stand in it; anything else as it is."""
    if not isinstance(value, str) or "authTag" not in value:
        return value
    inner: Any = value
    with suppress(ValueError, RecursionError, InvalidInput):
        while isinstance(inner, str):
            inner = json.loads(inner)
        json_input.check(inner)
        if _holds_sealed(inner):
            return inner
    return value


def is_unsealed(value: Any) -> bool:
    """Tell whether a value that is called encrypted is something, and yet no such object, nor holds one."""
    if value in (None, "", {}, []):
        return False
    with suppress(ValueError):
        truth(value)
        return False  # that something is encrypted
    return not _holds_sealed(value)


def is_broken(value: Any) -> bool:
    """Tell whether a value was such an object: a part of one, one that was cut off, one of which only a word is left.

    Of a secret's own value; an object of many other things may well have a part that is called so.
    """
    if isinstance(value, dict):
        has_part = any(isinstance(value.get(name), str) for name in _MAIN_PARTS)
        return has_part and value.keys() <= _PARTS_ELSEWHERE
    if not isinstance(value, str) or not _JSON_BEGINS.match(value):
        return False
    with suppress(ValueError, RecursionError):
        inner = json.loads(value)
        return isinstance(inner, dict | str) and is_broken(inner)
    return bool(_NO_TEXT.match(value) or _PART_IN_TEXT.search(value))


def _holds_sealed(value: Any) -> bool:
    waiting = [value]
    while waiting:
        one = unwrapped(waiting.pop())
        if isinstance(one, dict):
            if sealed_in(one) is not None:
                return True
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return False
