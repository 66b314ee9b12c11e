"""Takes every secret out of an old row: objects of the encryption service, and whatever is named or looks like one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from connections.imports.social_platforms.encryption_keys import OldKeys
from connections.imports.social_platforms.sealed_values import is_broken, is_unsealed, sealed_in, unwrapped
from connections.imports.social_platforms.spellings import is_nothing
from connections.imports.social_platforms.telling_names import is_app, is_telling, looks_secret, says_only
from external_apis import json_input
from external_apis.errors import InvalidInput, Unreadable, VaultError

__all__ = ["Parted", "part"]

BROKEN_BESIDE_CLEAR = "with an encrypted value that does not open: the one in clear beside it was taken"
CLEAR_IS_NEWER = "with a value in clear that differs from the encrypted one: it is newer and was taken"

_SUFFIX = "_encrypted"
_SHORTEST = 8
"""Characters; what is shorter stands in other texts by chance."""
_MOST_SOUGHT = 100
_HIDDEN = "••••"
_LABELS = ("name", "key", "header", "label")
_NESTED = re.compile(r"\s*[\[{\"]")


@dataclass
class Parted:
    """A row in two: ``plain`` may be shown, ``secrets`` (by path: ``credentials.access_token``) are to be sealed.

    ``problems`` are secrets that do not open, by path; ``notes`` are remarks for people, without a value.
    """

    plain: dict[str, Any] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    problems: dict[str, str] = field(default_factory=dict)
    refused: list[tuple[str, str]] = field(default_factory=list, repr=False)
    """Texts that should have been encrypted and are not, by path: no more to be shown than what opens."""
    notes: list[str] = field(default_factory=list)


def part(row: Mapping[str, Any], keys: OldKeys) -> Parted:
    """Take a row apart.

    The old service kept tokens in clear beside the encrypted ones for a while, and renewed those in clear alone: where
    both stand and differ, the one in clear is newer. It also goes for one that does not open.
    """
    parted = Parted()
    plain = _without_secrets(row, "", keys, parted)
    # They were also kept under names that tell nothing ("provider_key"), and stand in messages about them.
    parted.plain = _without_values(plain, _traces(plain, {**dict(parted.refused), **parted.secrets}))
    return parted


def _without_secrets(
    given: Mapping[str, Any], prefix: str, keys: OldKeys, parted: Parted, *, is_below: bool = False
) -> dict[str, Any]:
    """``is_below`` tells that it stands below a telling name: then all of it is secret but what is said of secrets."""
    is_below = is_below or _is_labelled(given)
    kept: dict[str, Any] = {}
    for name, value in ((name, unwrapped(value)) for name, value in given.items()):
        if value is None:
            kept[name] = None
            continue
        path = f"{prefix}{name}".removesuffix(_SUFFIX)
        is_encrypted = name.endswith(_SUFFIX)
        is_secret = is_encrypted or ((is_below or is_telling(name)) and not says_only(name, value))
        sealed = sealed_in(value)
        if sealed is not None or (is_encrypted and is_unsealed(value)) or (is_secret and is_broken(value)):
            clear = given.get(name.removesuffix(_SUFFIX)) if is_encrypted else None
            if sealed is None and isinstance(value, str):
                parted.refused.append((path, value))
            _open(path, sealed, clear, keys, parted)
        elif isinstance(value, dict | list):
            kept[name] = _kept(value, path, keys, parted, is_below=is_secret)
        elif not ((is_secret or is_app(name)) and _take(path, value, parted)):
            shown = _kept(value, path, keys, parted, is_below=False)
            if shown is not None:
                kept[name] = shown
    return kept


def _kept(value: Any, path: str, keys: OldKeys, parted: Parted, *, is_below: bool) -> Any:
    """Return what may be shown of a value; None where that is nothing."""
    value = unwrapped(value)
    if (sealed := sealed_in(value)) is not None or (is_below and is_broken(value)):
        _open(path, sealed, None, keys, parted)
        return None
    if isinstance(value, dict):
        return _without_secrets(value, f"{path}.", keys, parted, is_below=is_below)
    if isinstance(value, list):
        numbered = enumerate(value)
        return [_kept(item, f"{path}.{number}", keys, parted, is_below=is_below) for number, item in numbered]
    if is_below and _take(path, value, parted):
        return None
    return _kept_text(value, path, keys, parted) if isinstance(value, str) else value


def _kept_text(value: str, path: str, keys: OldKeys, parted: Parted) -> Any:
    """JSON within a text is taken apart where it holds a secret; else the text stays what it was."""
    if _NESTED.match(value):
        try:
            inner = json.loads(value)
            json_input.check(inner)
        except (ValueError, RecursionError, InvalidInput):
            inner = None
        if isinstance(inner, dict | list | str):
            found = Parted()
            kept = _kept(inner, path, keys, found, is_below=False)
            if not (found.secrets or found.problems):
                return value
            parted.secrets |= {one: secret for one, secret in found.secrets.items() if one not in parted.secrets}
            parted.problems |= found.problems
            parted.notes += found.notes
            return kept
    if looks_secret(value):
        _take(path, value, parted)
        return None
    return value


def _take(path: str, value: Any, parted: Parted) -> bool:
    """Keep a value as a secret; tell whether it can be one, or is a word for none."""
    if value is None or value == "" or isinstance(value, bool):
        return False
    if is_nothing(value) or path in parted.secrets:  # of the encrypted one, which stood before it
        return True
    parted.secrets[path] = str(value)
    return True


def _is_labelled(given: Mapping[str, Any]) -> bool:
    """Tell whether an object is a pair such as ``{"name": "Authorization", "value": …}``, and a secret's."""
    labels = [given.get(name) for name in _LABELS] if "value" in given else []
    return any(isinstance(label, str) and is_telling(label) for label in labels)


def _open(path: str, sealed: Mapping[str, Any] | None, clear: Any, keys: OldKeys, parted: Parted) -> None:
    """``sealed`` is None of what should be such an object and is none; ``clear`` stands beside it."""
    clear = clear if _is_clear(clear) else None
    try:
        if sealed is None:
            raise Unreadable("is no encrypted object: it was cut off, or is in another form")
        opened = keys.open(sealed)
    except VaultError as error:
        if clear is None:
            if path not in parted.secrets:  # of one that opens under the other name
                parted.problems[path] = error.message
            return
        parted.notes.append(BROKEN_BESIDE_CLEAR)
        opened = clear
    if clear is not None and clear != opened:
        parted.notes.append(CLEAR_IS_NEWER)
        opened = clear
    parted.problems.pop(path, None)
    parted.secrets[path] = opened


def _is_clear(value: Any) -> bool:
    is_text = isinstance(value, str) and value != "" and not is_nothing(value)
    return is_text and sealed_in(value) is None and not is_broken(value)


def _traces(plain: Any, secrets: Mapping[str, str]) -> _Traces:
    """Return which secrets to look for in what is left of the row: all as whole values, and within other texts, as they
    are and as a URL writes them, those that stand highest (a row may hold a page's tokens by the thousand)."""
    known = [path for path, secret in secrets.items() if _leaves_traces(path, secret)]
    highest = {secrets[path] for path in sorted(known, key=_depth)[:_MOST_SOUGHT]}
    whole = "\n".join(_texts(plain)) if known else ""
    found = {one for one in highest | {quote(one, safe="") for one in highest} if one in whole}
    return _Traces(frozenset(secrets[path] for path in known), sorted(found, key=len, reverse=True))


def _depth(path: str) -> int:
    return path.count(".")


@dataclass(frozen=True)
class _Traces:
    values: frozenset[str] = field(repr=False)
    within: Sequence[str] = field(repr=False)

    def hide(self, text: str) -> str:
        for secret in self.within:
            text = text.replace(secret, _HIDDEN)
        return text


def _leaves_traces(path: str, secret: str) -> bool:
    """Not a word that only stands beside a secret, such as a shop's name within ``credentials``."""
    names = [name for name in path.split(".") if "credential" not in name.lower()]
    if any(is_telling(name) or is_app(name) for name in names):
        return len(secret) >= _SHORTEST
    return len(secret) >= 2 * _SHORTEST and any(map(str.isdigit, secret))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _without_values(value: Any, traces: _Traces) -> Any:
    if isinstance(value, str):
        return None if value in traces.values else traces.hide(value)
    if isinstance(value, dict):
        kept: dict[str, Any] = {}
        for name, item in value.items():
            shown = _HIDDEN if name in traces.values else traces.hide(name)
            while shown in kept:
                shown += _HIDDEN[0]
            kept[shown] = _without_values(item, traces)
        return kept
    if isinstance(value, list):
        return [_without_values(item, traces) for item in value]
    return value
