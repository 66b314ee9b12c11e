"""The vault's cryptography: AES-256-GCM under named keys, and the object that holds what was opened.

A sealed value is one byte string: form, key id, nonce, ciphertext and tag (the seed's ``EncryptedData`` in binary). The
form tells whether the key is one of ``ENCRYPTION_KEYS`` (a master key) or a data key, which is stored sealed under a
master key. The associated data names the row and column that the value belongs to, so that a ciphertext moved elsewhere
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
from enum import IntEnum
from functools import cached_property
from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from external_apis.errors import UnknownKey, Unreadable

__all__ = ["KEY_BYTES", "Form", "Key", "Keyring", "Sealed", "Secrets"]

KEY_BYTES = 32
_NONCE_BYTES = 12
_TAG_BYTES = 16
_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,32}")


class Form(IntEnum):
    """The first byte of a sealed value: what kind of key sealed it."""

    UNDER_MASTER_KEY = 1
    UNDER_DATA_KEY = 2


class Sealed(bytes):
    """A sealed value as it is stored: ``form | length of key id | key id | nonce | ciphertext and tag``."""

    __slots__ = ()

    @property
    def form(self) -> Form:
        """The kind of key that sealed it. Raises `Unreadable` for anything malformed."""
        self._header_end()
        return Form(self[0])

    @property
    def key_id(self) -> str:
        """The id of the key that sealed it, read without opening. Raises `Unreadable` for anything malformed."""
        end = self._header_end()
        try:
            return self[2:end].decode("ascii")
        except UnicodeDecodeError:
            raise Unreadable("The sealed value is damaged: its key id is not text.") from None

    @property
    def parts(self) -> tuple[bytes, bytes, bytes]:
        """The header, the nonce, and the ciphertext with its tag."""
        end = self._header_end()
        return self[:end], self[end : end + _NONCE_BYTES], self[end + _NONCE_BYTES :]

    def _header_end(self) -> int:
        if len(self) < 2 or self[0] not in (Form.UNDER_MASTER_KEY, Form.UNDER_DATA_KEY):
            raise Unreadable("The sealed value is damaged: unknown format.")
        end = 2 + self[1]
        if len(self) < end + _NONCE_BYTES + _TAG_BYTES:
            raise Unreadable("The sealed value is damaged: it is too short.")
        return end

    def __repr__(self) -> str:
        return f"<sealed, {len(self)} bytes>"


class Key:
    """One key under its id. Its ``repr`` shows the id alone; it cannot be pickled."""

    def __init__(self, key_id: str, secret: bytes, form: Form) -> None:
        if len(secret) != KEY_BYTES:
            raise ValueError(f"key {key_id!r} is not {KEY_BYTES} bytes long.")
        self.id = key_id
        self._secret = secret
        self._cipher = AESGCM(secret)
        self._header = bytes((form, len(key_id))) + key_id.encode("ascii")

    def seal(self, plaintext: bytes, identity: str) -> Sealed:
        """Seal for the place that ``identity`` names (``app.model:pk:field``)."""
        nonce = os.urandom(_NONCE_BYTES)
        return Sealed(self._header + nonce + self._cipher.encrypt(nonce, plaintext, self._header + identity.encode()))

    def open(self, sealed: Sealed, identity: str) -> bytes:
        """Return what was sealed for ``identity``. Raises `Unreadable` for what is damaged or belongs elsewhere."""
        header, nonce, ciphertext = sealed.parts
        try:
            return self._cipher.decrypt(nonce, ciphertext, header + identity.encode())
        except InvalidTag:
            raise Unreadable(
                "The sealed value does not open: it was altered, moved from another row, or sealed under another key "
                f"of the id {self.id!r}."
            ) from None

    def fingerprint(self, secret: str) -> str:
        """Return 16 hex characters that tell one secret from another and cannot be searched for without the key."""
        return hmac.new(self._fingerprint_key, secret.encode(), hashlib.sha256).hexdigest()[:16]

    @cached_property
    def _fingerprint_key(self) -> bytes:
        derivation = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"external-apis fingerprint")
        return derivation.derive(self._secret)

    def __repr__(self) -> str:
        return f"<Key {self.id}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A Key is not pickled.")


class Keyring:
    """Master keys by id. The first one writes, all of them read.

    ``keys`` maps an id (letters, digits, ``.``, ``_``, ``-``) to 32 bytes.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        if not keys:
            raise ValueError("ENCRYPTION_KEYS holds no key.")
        self._keys: dict[str, Key] = {}
        for key_id, secret in keys.items():
            if not _KEY_ID.fullmatch(key_id):
                raise ValueError("ENCRYPTION_KEYS: a key id is 1 to 32 letters, digits, dots, dashes or underscores.")
            try:
                self._keys[key_id] = Key(key_id, secret, Form.UNDER_MASTER_KEY)
            except ValueError as error:
                raise ValueError(f"ENCRYPTION_KEYS: {error}") from None
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
        return tuple(self._keys)

    def seal(self, plaintext: bytes, identity: str) -> Sealed:
        """Seal under the writing key, as `Key.seal` does."""
        return self._keys[self.writing_key_id].seal(plaintext, identity)

    def open(self, sealed: bytes, identity: str) -> bytes:
        """Return what was sealed for ``identity`` under a master key.

        Raises `UnknownKey`, naming the id, and `Unreadable` for a value that is damaged or belongs elsewhere.
        """
        sealed = Sealed(sealed)
        return self.key(sealed.key_id).open(sealed, identity)

    def reseal(self, sealed: bytes, identity: str) -> Sealed:
        """Seal again under the writing key."""
        return self.seal(self.open(sealed, identity), identity)

    def key(self, key_id: str) -> Key:
        """Return the key of an id. Raises `UnknownKey`."""
        try:
            return self._keys[key_id]
        except KeyError:
            raise UnknownKey(
                f"The value is sealed under encryption key {key_id!r}, which ENCRYPTION_KEYS does not hold.",
                details={"key_id": key_id},
            ) from None

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
