"""The keys of the old encryption service, and the AES-256-GCM objects that they open.

An object is ``{"encrypted", "iv", "authTag", "keyVersion"}`` (seed 000's ``EncryptedData``), its parts in base64, or
all of them in hexadecimal. There is no associated data.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from external_apis.errors import InvalidInput, UnknownKey, Unreadable

__all__ = ["OldKeys"]

_KEY_BYTES, _TAG_BYTES = 32, 16
_IV_BYTES = range(12, 17)
_LONGEST_FILE = 1_000_000
_LONGEST_CIPHERTEXT = 200_000
_CURRENT, _VERSION = "ENCRYPTION_KEY", "ENCRYPTION_KEY_VERSION"
_LINE = re.compile(
    r"(?:export\s+)?(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*=|(?P<version>\d{1,6})\s*[:=])\s*(?P<value>.*)"
)
_OLDER = re.compile(r"ENCRYPTION_KEY_V(\d{1,6})")
_HEX_TAG = re.compile(r"[0-9a-fA-F]{32}")


class OldKeys:
    """Keys by version. Its ``repr`` shows the versions alone; it cannot be pickled."""

    def __init__(self, keys: Mapping[int, bytes] | None = None) -> None:
        self._ciphers = {version: AESGCM(key) for version, key in (keys or {}).items()}

    @classmethod
    def read(cls, paths: Iterable[Path]) -> OldKeys:
        """Read key files; several of them add up.

        A file is the old service's own ``.env`` (``ENCRYPTION_KEY`` with ``ENCRYPTION_KEY_VERSION``, and
        ``ENCRYPTION_KEY_V1``, …; whatever else stands there is passed over), or holds lines ``1:base64``, or nothing
        but one key, which counts as version 1. Raises `InvalidInput` that names file and line and quotes nothing.
        """
        found: dict[int, bytes] = {}
        for path in paths:
            keys = _read_file(path)
            for version, key in keys.items():
                _require_same(found.setdefault(version, key), key, str(path), version)
        return cls(found)

    def open(self, sealed: Mapping[str, Any]) -> str:
        """Return the text in an object of the old service.

        Raises `UnknownKey` for a version that no key file holds and `Unreadable` for what does not open.
        """
        version = _version(sealed.get("keyVersion", 1))
        cipher = self._ciphers.get(version)
        if cipher is None:
            raise UnknownKey(
                f"is encrypted under key version {version} of the old service, which no --encryption-key-file holds"
            )
        ciphertext, iv, tag = _parts(sealed)
        try:
            return cipher.decrypt(iv, ciphertext + tag, None).decode()
        except InvalidTag:
            raise Unreadable(
                f"does not open with key version {version} of the old service: it was altered, or sealed under another"
            ) from None
        except UnicodeDecodeError:
            raise Unreadable("holds no text once it is opened") from None

    def __bool__(self) -> bool:
        return bool(self._ciphers)

    def __repr__(self) -> str:
        return f"<OldKeys: {', '.join(map(str, sorted(self._ciphers))) or 'none'}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("Keys are not pickled.")


def _read_file(path: Path) -> dict[int, bytes]:
    try:
        if not path.is_file():
            raise InvalidInput(f"{path}: there is no such file.")
        if path.stat().st_size > _LONGEST_FILE:
            raise InvalidInput(f"{path}: is too long for a file of keys.")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{path}: is not text.") from None
    lines = [line.strip() for line in text.splitlines()]
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line and not line.startswith("#")]
    if len(numbered) == 1 and (bare := _decoded(numbered[0][1])):
        return {1: bare}
    keys = _named_keys(numbered, path)
    if not keys:
        raise InvalidInput(f"{path}: holds no key: neither {_CURRENT}= nor lines such as 1:base64.")
    return keys


def _named_keys(lines: Iterable[tuple[int, str]], path: Path) -> dict[int, bytes]:
    keys: dict[int, bytes] = {}
    current, current_version = None, 1
    for number, line in lines:
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        name, value = match["name"], match["value"].strip().strip("'\"")
        if name == _CURRENT:
            current = _key(value, path, number)
        elif name == _VERSION:
            current_version = int(value) if value.isdecimal() and len(value) <= 6 else _refuse_version(path, number)
        elif version := match["version"] or ((older := _OLDER.fullmatch(name)) and older[1]):
            key = _key(value, path, number)
            _require_same(keys.setdefault(int(version), key), key, f"{path}, line {number}", int(version))
    if current is not None:
        keys[current_version] = current
    return keys


def _require_same(kept: bytes, given: bytes, place: str, version: int) -> None:
    if kept != given:
        raise InvalidInput(f"{place}: there is another key of version {version} already.")


def _refuse_version(path: Path, number: int) -> NoReturn:
    raise InvalidInput(f"{path}, line {number}: {_VERSION} is not a number.")


def _key(text: str, path: Path, number: int) -> bytes:
    key = _decoded(text)
    if not key:
        raise InvalidInput(f"{path}, line {number}: is no key of {_KEY_BYTES} bytes in base64.")
    return key


def _decoded(text: str) -> bytes:
    """The key in a text, empty where there is none."""
    try:
        key = bytes.fromhex(text) if len(text) == 2 * _KEY_BYTES else base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return key if len(key) == _KEY_BYTES else b""


def _version(value: Any) -> int:
    if isinstance(value, str) and value.isdecimal() and len(value) <= 6:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Unreadable("names no version of its key")
    return value


def _parts(sealed: Mapping[str, Any]) -> tuple[bytes, bytes, bytes]:
    ciphertext, iv, tag = (sealed.get(name) for name in ("encrypted", "iv", "authTag"))
    if not (isinstance(ciphertext, str) and isinstance(iv, str) and isinstance(tag, str)):
        raise Unreadable("is no encrypted object: a part is missing or no text")
    if len(ciphertext) > _LONGEST_CIPHERTEXT:
        raise Unreadable("is longer than any secret is")
    try:
        if _HEX_TAG.fullmatch(tag):
            parts = bytes.fromhex(ciphertext), bytes.fromhex(iv), bytes.fromhex(tag)
        else:
            parts = _base64(ciphertext), _base64(iv), _base64(tag)
    except (binascii.Error, ValueError):
        raise Unreadable("is no encrypted object: a part is neither base64 nor hexadecimal") from None
    # A shorter tag is a weaker proof, and opens more of what was altered.
    if len(parts[1]) not in _IV_BYTES or len(parts[2]) != _TAG_BYTES:
        raise Unreadable("is no encrypted object: its iv or its authTag has the wrong length")
    return parts


def _base64(text: str) -> bytes:
    return base64.b64decode(
        text + "=" * (-len(text) % 4), altchars=b"-_" if {"-", "_"} & set(text) else None, validate=True
    )
