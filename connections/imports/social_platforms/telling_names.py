"""What is a secret, by the name that it stands under and by what it looks like. Where in doubt, it is one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

__all__ = ["is_app", "is_telling", "looks_secret", "says_only"]

_APP = frozenset({"client_id", "app_id", "consumer_key"})
"""An app is stored under its own client (see `platforms`), so its id goes with the secret."""

_LONGEST_NAME = 100
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
# Anywhere in a name, and as whole words of it.
_PARTS = re.compile(
    r"token|secret|passw|passphrase|credential|cookie|signature|verifier|authorization|session|bearer"
    r"|(?:api|access|private|consumer|client|signing|encryption|auth|master|shared)_?keys?"
)
_WORDS = frozenset({"auth", "cert", "hmac", "jwt", "otp", "pass", "pem", "pin", "pins", "pwd", "seed", "sig", "xauth"})
_LAST_WORDS = frozenset({"key", "keys"})

# What may be said of a secret, by the last word of the name and what such a thing looks like: a token's type is no
# token, but only where it reads like a type.
_TIME = re.compile(r"\d{4}-\d\d-\d\d[\dT :.+Z-]{0,30}|\d{9,13}", re.IGNORECASE)
_NUMBER = re.compile(r"\d{1,9}")
_FACTS = {
    "at": _TIME,
    "expiry": _TIME,
    "expires": _TIME,
    "in": _NUMBER,
    "count": _NUMBER,
    "version": _NUMBER,
    "type": re.compile(r"[A-Za-z]{1,12}"),
    "url": (
        _URL := re.compile(r"https?://[\w.:-]+(?:/[a-z0-9._~-]{0,40})*(?:[?&]\w{1,30}=[\w.%+-]{0,20})*", re.IGNORECASE)
    ),
    "uri": _URL,
    "endpoint": _URL,
}
# What the importer itself reads beside the secrets of an account or an app, and never shows without reading it.
_READ = frozenset(
    {
        *("token_expires_at", "access_token_expires_at", "expires_at", "expires_in", "retrieved_at"),
        *("authenticated_at", "connected_at", "scope", "scopes", "auth_type", "username", "status", "is_active"),
        *("page_id", "page_name", "account_id", "account_sid", "external_id", "platform_account_id"),
        *("provider_account_id", "ig_user_id", "phone_number", "phone_number_id", "header_name", "key_prefix"),
    }
)

_HIDDEN = "|".join(
    (
        r"://[^/?#\s]+@",
        r"hooks\.slack\.com/|discord(?:app)?\.com/api/webhooks/|hooks\.zapier\.com/|webhook\.office\.com/|/bot\d+:",
        r"-----BEGIN [A-Z ]*PRIVATE KEY",
        r"(?<![\w-])(?:eyJ[\w-]{8,}\.[\w-]{8}|SG\.[\w-]{10,}\.)",
        (
            r"(?<![A-Za-z0-9])(?:EAA[A-Za-z0-9]{20}|xox[a-z]-|xapp-|gh[a-z]_\w{16}|github_pat_"
            r"|(?:sk|rk)_(?:live|test)_|whsec_|shp[a-z]{2}_|AKIA[A-Z0-9]{12}|AIza[\w-]{20}|ya29\.|glpat-)"
        ),
        r"\b(?:[Bb]earer|[Bb]asic|BEARER|BASIC)\s+(?=\S*\d)\S{8}",
    )
)
_LOOKS = re.compile(_HIDDEN)
# name=value as in a query or a form, name: value as in a header; the name is judged by itself.
_PAIR = re.compile(r"(?<![\w.\[\]-])([\w.\[\]-]{1,60})[\"']?\s*(?:=|:(?=\s*[\"']?[^\s/]{8}))\s*[\"']?([^\s&#\"']*)")


def is_telling(name: str) -> bool:
    """Tell whether a name says that what stands under it, however deep, is secret: ``access_token``, ``xAuth``."""
    return _look_at(name[-_LONGEST_NAME:]).is_telling


def is_app(name: str) -> bool:
    """Tell whether a name is that of an app's id."""
    return _look_at(name[-_LONGEST_NAME:]).is_app


def says_only(name: str, value: Any) -> bool:
    """Tell whether something under a telling name is only said of the secret: when it ends, of which type it is."""
    found = _look_at(name[-_LONGEST_NAME:])
    if found.is_read or found.shape is None:
        return found.is_read
    return isinstance(value, str | int) and found.shape.fullmatch(str(value)) is not None


def looks_secret(value: str) -> bool:
    """Tell whether a text holds a secret, whatever its name: a webhook's URL, a JWT, ``?token=…``, ``password: …``."""
    if _LOOKS.search(value):
        return True
    if "=" not in value and ":" not in value:
        return False
    pairs = (pair.groups() for pair in _PAIR.finditer(value))
    return any(found and is_telling(name) and not says_only(name, found) for name, found in pairs)


@dataclass(frozen=True)
class _Name:
    is_telling: bool
    is_app: bool
    is_read: bool
    shape: re.Pattern[str] | None


@lru_cache(maxsize=4_096)
def _look_at(name: str) -> _Name:
    words = [word.lower() for word in _WORD.findall(name)]
    joined, last = "_".join(words), words[-1] if words else ""
    has_part = _PARTS.search(joined) or _PARTS.search(joined.replace("_", ""))
    is_telling = bool(has_part) or not _WORDS.isdisjoint(words) or last in _LAST_WORDS
    return _Name(is_telling, joined in _APP, joined in _READ, _FACTS.get(last))
