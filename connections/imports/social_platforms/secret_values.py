"""Takes every secret out of an old row: objects of the encryption service, and whatever is named or looks like one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from connections.imports.social_platforms.encryption_keys import OldKeys, is_sealed
from external_apis.errors import VaultError

__all__ = ["Parted", "part"]

BROKEN_BESIDE_CLEAR = "with an encrypted value that does not open: the one in clear beside it was taken"
CLEAR_IS_NEWER = "with a value in clear that differs from the encrypted one: it is newer and was taken"

_SUFFIX = "_encrypted"
_TELLING = re.compile(
    r"token|secret|passw|credential|cookie|signature|verifier|authorization|session"
    r"|(^|_|api|access|private|consumer|client)_?key$",
    re.IGNORECASE,
)
# An app is stored under its own client (see `platforms`), so its id goes with the secret.
_APP = frozenset({"client_id", "app_id", "consumer_key"})
# What is said of a secret: token_type, expires_in, session_count, token_url.
_FACT = re.compile(r"_?(at|in|type|count|ids?|name|ur[li]|path|prefix|status|version|scopes?)$", re.IGNORECASE)
_URL_SECRET = re.compile(
    r"://[^/?#\s]*:[^/?#\s]*@|[?&#](access_token|client_secret|api_?key|password|sig|signature)=", re.IGNORECASE
)


@dataclass
class Parted:
    """A row in two: ``plain`` may be shown, ``secrets`` (by path: ``credentials.access_token``) are to be sealed.

    ``problems`` are secrets that do not open, by path; ``notes`` are remarks for people, without a value.
    """

    plain: dict[str, Any] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    problems: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def part(row: Mapping[str, Any], keys: OldKeys) -> Parted:
    """Take a row apart.

    The old service kept tokens in clear beside the encrypted ones for a while, and renewed those in clear alone: where
    both stand and differ, the one in clear is newer. It also goes for one that does not open.
    """
    parted = Parted()
    plain = _without_secrets(row, "", keys, parted)
    # One of them was also kept under names that tell nothing ("provider_key").
    values = {secret for secret in parted.secrets.values() if len(secret) >= 8}
    parted.plain = _without_values(plain, values)
    return parted


def _without_secrets(given: Mapping[str, Any], prefix: str, keys: OldKeys, parted: Parted) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in given.items():
        if is_sealed(value):
            _open(f"{prefix}{name}".removesuffix(_SUFFIX), value, given.get(name.removesuffix(_SUFFIX)), keys, parted)
        elif isinstance(value, str) and value and _is_secret(name, value):
            parted.secrets.setdefault(f"{prefix}{name}".removesuffix(_SUFFIX), value)
        else:
            kept[name] = _kept(value, f"{prefix}{name}".removesuffix(_SUFFIX), keys, parted)
    return kept


def _kept(value: Any, path: str, keys: OldKeys, parted: Parted) -> Any:
    if isinstance(value, dict):
        return _without_secrets(value, f"{path}.", keys, parted)
    if isinstance(value, list):
        return [_item(item, f"{path}.{position}", keys, parted) for position, item in enumerate(value)]
    return value


def _item(value: Any, path: str, keys: OldKeys, parted: Parted) -> Any:
    if is_sealed(value):
        _open(path, value, None, keys, parted)
        return None
    return _kept(value, path, keys, parted)


def _open(path: str, sealed: Mapping[str, Any], clear: Any, keys: OldKeys, parted: Parted) -> None:
    clear = clear if isinstance(clear, str) and clear else None
    try:
        opened = keys.open(sealed)
    except VaultError as error:
        if clear is None:
            parted.problems[path] = error.message
            return
        parted.notes.append(BROKEN_BESIDE_CLEAR)
        opened = clear
    if clear is not None and clear != opened:
        parted.notes.append(CLEAR_IS_NEWER)
        opened = clear
    parted.secrets[path] = opened


def _is_secret(name: str, value: str) -> bool:
    if name.endswith(_SUFFIX):
        return True
    if name in _APP or (_TELLING.search(name) and not _FACT.search(name)):
        return True
    return "://" in value and _URL_SECRET.search(value) is not None


def _without_values(value: Any, secrets: set[str]) -> Any:
    if isinstance(value, str):
        return None if value in secrets else value
    if isinstance(value, dict):
        return {name: _without_values(item, secrets) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_values(item, secrets) for item in value]
    return value
