"""The vault's cryptography: AES-256-GCM under a ring of named keys, and the object that holds what was opened.

A sealed value is one byte string: format version, key id, nonce, ciphertext and tag (the seed's ``EncryptedData`` in
binary). The associated data names the row and column that the value belongs to, so that a ciphertext moved elsewhere
does not open.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from external_apis.errors import UnknownKey, Unreadable

__all__ = ["Keyring", "Sealed", "Secrets"]

# The first byte leaves room for other forms, such as a tenant's data key wrapped by a master key.
_VERSION = 1
_NONCE_BYTES = 12
_TAG_BYTES = 16
_KEY_BYTES = 32
_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,32}")


class Sealed(bytes):
    """A sealed value as it is stored: ``0x01 | length of key id | key id | nonce | ciphertext and tag``."""

    __slots__ = ()

    @property
    def key_id(self) -> str:
        """The id of the key that sealed it, read without opening. Raises `Unreadable` for anything malformed."""
        end = self._header_end()
        try:
            return self[2:end].decode("ascii")
        except UnicodeDecodeError:
            raise Unreadable("The sealed value is damaged: its key id is not text.") from None

    @property
    def body(self) -> tuple[bytes, bytes]:
        """The nonce, and the ciphertext with its tag."""
        end = self._header_end()
        return self[end : end + _NONCE_BYTES], self[end + _NONCE_BYTES :]

    def _header_end(self) -> int:
        if len(self) < 2 or self[0] != _VERSION:
            raise Unreadable("The sealed value is damaged: unknown format.")
        end = 2 + self[1]
        if len(self) < end + _NONCE_BYTES + _TAG_BYTES:
            raise Unreadable("The sealed value is damaged: it is too short.")
        return end

    def __repr__(self) -> str:
        return f"<sealed, {len(self)} bytes>"


class Keyring:
    """Encryption keys by id. The first one writes, all of them read.

    ``keys`` maps an id (letters, digits, ``.``, ``_``, ``-``) to 32 bytes.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        if not keys:
            raise ValueError("ENCRYPTION_KEYS holds no key.")
        for key_id, key in keys.items():
            if not _KEY_ID.fullmatch(key_id):
                raise ValueError("ENCRYPTION_KEYS: a key id is 1 to 32 letters, digits, dots, dashes or underscores.")
            if len(key) != _KEY_BYTES:
                raise ValueError(f"ENCRYPTION_KEYS: key {key_id!r} is not 32 bytes long.")
        self._keys = dict(keys)
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self.writing_key_id = next(iter(keys))

    @classmethod
    def parse(cls, text: str) -> Keyring:
        """Read ``id:base64 of 32 bytes`` entries separated by commas. Raises `ValueError` without quoting a key."""
        keys: dict[str, bytes] = {}
        for position, entry in enumerate(text.split(","), start=1):
            key_id, colon, encoded = entry.strip().partition(":")
            if not colon:
                raise ValueError(f"ENCRYPTION_KEYS: entry {position} is not of the form id:base64.")
            try:
                key = base64.b64decode(
                    encoded.strip(), altchars=b"-_" if {"-", "_"} & set(encoded) else None, validate=True
                )
            except (binascii.Error, ValueError):
                raise ValueError(f"ENCRYPTION_KEYS: the key of entry {position} is not base64.") from None
            if key_id in keys:
                raise ValueError(f"ENCRYPTION_KEYS: the id of entry {position} stands there twice.")
            keys[key_id] = key
        return cls(keys)

    @property
    def key_ids(self) -> tuple[str, ...]:
        return tuple(self._ciphers)

    def seal(self, plaintext: bytes, identity: str) -> Sealed:
        """Seal for the place that ``identity`` names (``app.model:pk:field``) under the writing key."""
        key_id = self.writing_key_id.encode()
        nonce = os.urandom(_NONCE_BYTES)
        header = bytes((_VERSION, len(key_id))) + key_id
        cipher = self._ciphers[self.writing_key_id]
        return Sealed(header + nonce + cipher.encrypt(nonce, plaintext, header + identity.encode()))

    def open(self, sealed: bytes, identity: str) -> bytes:
        """Return what was sealed for ``identity``.

        Raises `UnknownKey`, naming the id, and `Unreadable` for a value that is damaged or belongs elsewhere.
        """
        sealed = Sealed(sealed)
        cipher = self.cipher(sealed.key_id)
        nonce, ciphertext = sealed.body
        header = bytes(sealed[: len(sealed) - len(nonce) - len(ciphertext)])
        try:
            return cipher.decrypt(nonce, ciphertext, header + identity.encode())
        except InvalidTag:
            raise Unreadable(
                "The sealed value does not open: it was altered, moved from another row, or sealed under another key "
                f"of the id {sealed.key_id!r}."
            ) from None

    def reseal(self, sealed: bytes, identity: str) -> Sealed:
        """Seal again under the writing key."""
        return self.seal(self.open(sealed, identity), identity)

    def cipher(self, key_id: str) -> AESGCM:
        try:
            return self._ciphers[key_id]
        except KeyError:
            raise UnknownKey(
                f"The value is sealed under encryption key {key_id!r}, which ENCRYPTION_KEYS does not hold.",
                details={"key_id": key_id},
            ) from None

    def fingerprint(self, secret: str) -> str:
        """Return 16 hex characters that tell one secret from another and cannot be searched for without the key."""
        return hmac.new(self._fingerprint_key, secret.encode(), hashlib.sha256).hexdigest()[:16]

    @cached_property
    def _fingerprint_key(self) -> bytes:
        derivation = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"external-apis fingerprint")
        return derivation.derive(self._keys[self.writing_key_id])

    def __repr__(self) -> str:
        return f"<Keyring {', '.join(self.key_ids)}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A Keyring is not pickled.")


class Secrets(Mapping[str, str]):
    """Opened secrets by name. Reading one is deliberate: ``repr``, ``str``, logging and pickling reveal nothing."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values = dict(values or {})

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def merged(self, changes: Mapping[str, str | None]) -> Secrets:
        """Return a copy with ``changes`` applied; None removes a name."""
        return Secrets({name: value for name, value in {**self._values, **changes}.items() if value is not None})

    def __repr__(self) -> str:
        return f"<Secrets: {', '.join(sorted(self._values)) or 'none'}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("Secrets are not pickled.")
