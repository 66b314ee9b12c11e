"""A sealed copy of what was read last, in a file of one's own, for while the server is away."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, NoReturn

from connections.wire.arguments import refuse
from external_apis.errors import InvalidInput

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
except ImportError:  # it is no dependency of the remote client
    AESGCM = None  # type: ignore[assignment,misc]

__all__ = ["SealedCopy"]

_NONCE_BYTES, _KEY_BYTES = 12, 32
_MAX_BYTES = 2 * 1024 * 1024
_CLOCK_SKEW_SECONDS = 60.0


class SealedCopy:
    """One file a name in a folder, AES-256-GCM, readable by its owner alone; for some seconds after it was written.

    A file that was altered, sealed with another key, or moved from another name, server or machine's folder counts as
    none, and so does one that others may read or write. Whoever has both the file and the key has the secret: keep the
    key elsewhere.
    """

    def __init__(self, folder: str | Path, key: bytes | str, *, now: Callable[[], float] = time.time) -> None:
        """Take a key of 32 bytes, or its Base64. Raise `InvalidInput`, also where ``cryptography`` is missing."""
        if AESGCM is None:
            raise InvalidInput("A sealed local copy needs the package cryptography; install it beside this one.")
        self._cipher = AESGCM(_read_key(key))
        self._folder = Path(folder)
        self._now = now

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Replace the copy in one step. Raises `OSError` where it cannot be written."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        nonce = os.urandom(_NONCE_BYTES)
        text = json.dumps({"at": self._now(), "content": content}).encode()
        sealed = nonce + self._cipher.encrypt(nonce, text, name.encode())
        # Made for its owner alone from the first byte on.
        with NamedTemporaryFile(dir=self._folder, prefix=".copy-", delete=False) as file:
            try:
                file.write(sealed)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(self._path(name))
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise

    def read(self, name: str, most_seconds: float) -> dict[str, Any] | None:
        """Return what was written under a name at most so many seconds ago, else None."""
        sealed = self._load(name)
        if sealed is None:
            return None
        try:
            text = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], name.encode())
        except (InvalidTag, ValueError):
            return None
        found = json.loads(text)
        age = self._now() - found["at"]
        content: dict[str, Any] = found["content"]
        return content if -_CLOCK_SKEW_SECONDS <= age <= most_seconds else None

    def delete(self, name: str) -> None:
        """Delete the copy. Raises `OSError` where there is one that cannot be deleted."""
        self._path(name).unlink(missing_ok=True)

    def _load(self, name: str) -> bytes | None:
        with suppress(OSError):
            handle = os.open(self._path(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(handle, "rb") as file:
                facts = os.fstat(file.fileno())
                is_own = facts.st_uid == os.geteuid() and not stat.S_IMODE(facts.st_mode) & 0o077
                if stat.S_ISREG(facts.st_mode) and is_own and facts.st_size <= _MAX_BYTES:
                    return file.read(_MAX_BYTES)
        return None

    def _path(self, name: str) -> Path:
        return self._folder / f"{hashlib.sha256(name.encode()).hexdigest()}.sealed"

    def __repr__(self) -> str:
        return f"<SealedCopy in {self._folder}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A SealedCopy holds a key and is not pickled.")


def _read_key(key: bytes | str) -> bytes:
    try:
        raw = base64.b64decode(key, validate=True) if isinstance(key, str) else key
    except (binascii.Error, ValueError):
        raw = b""
    if not isinstance(raw, bytes) or len(raw) != _KEY_BYTES:
        raise refuse("copy_key", "is neither 32 bytes nor their Base64")
    return raw
