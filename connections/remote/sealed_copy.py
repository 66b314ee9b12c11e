"""Sealed files of one's own, for what was read last and what is known to be over."""

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


class SealedCopy:
    """Sealed entries in a folder, a file each: AES-256-GCM, readable by their owner alone.

    A file that was altered, sealed with another key, or moved from another entry counts as none, and so does one that
    others may read or write. Whoever has both the files and the key has the secrets: keep the key elsewhere.
    """

    def __init__(self, folder: str | Path, key: bytes | str, *, now: Callable[[], float] = time.time) -> None:
        """Take a key of 32 bytes, or its Base64.

        Raise `InvalidInput` for anything else, where ``cryptography`` is missing, and for a folder in which others may
        make files.
        """
        if AESGCM is None:
            raise InvalidInput("A sealed local copy needs the package cryptography; install it beside this one.")
        self._cipher = AESGCM(_read_key(key))
        self._folder = Path(folder)
        self.now = now
        if self._folder.exists() and not self._is_own_folder():
            raise refuse("copy", "names a folder in which others may make files; take one of your own with mode 0700")

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Replace an entry in one step. Raises `OSError` where it cannot be written."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._is_own_folder():
            raise PermissionError("others may make files in the folder of the sealed copy")
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, json.dumps(content).encode(), name.encode())
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

    def read(self, name: str) -> dict[str, Any] | None:
        """Return what was written under a name, None for what counts as none."""
        sealed = self._load(name)
        if sealed is None:
            return None
        try:
            text = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], name.encode())
        except (InvalidTag, ValueError):
            return None
        content: dict[str, Any] = json.loads(text)
        return content

    def has(self, name: str) -> bool:
        """Tell whether there is a file of that name, whatever is in it."""
        return os.path.lexists(self._path(name))

    def delete(self, name: str) -> None:
        """Delete an entry, or empty its file where the folder does not let it go.

        Raises `OSError` where there is one that can be neither deleted nor emptied.
        """
        path = self._path(name)
        try:
            path.unlink(missing_ok=True)
        except OSError:
            os.close(os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC))

    def _is_own_folder(self) -> bool:
        facts = self._folder.stat()
        return facts.st_uid in (0, os.geteuid()) and not stat.S_IMODE(facts.st_mode) & 0o022

    def _load(self, name: str) -> bytes | None:
        with suppress(OSError):
            if not self._is_own_folder():
                return None
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
