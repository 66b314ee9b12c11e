"""The encrypted file: chunks of AES-256-GCM under a key that scrypt makes of the passphrase (docs/backup-format.md).

``magic | version | header length | header (JSON) | check | chunks``. The header is authenticated with every chunk; a
chunk's nonce counts it and tells whether it is the last one, so that nothing can be cut off, moved or left out. Reading
and writing hold one chunk in memory.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from hashlib import scrypt
from typing import Any, BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from external_apis.errors import InvalidInput

__all__ = ["CHUNK_BYTES", "Reader", "Writer"]

CHUNK_BYTES = 256 * 1024
_MAGIC, _VERSION = b"EAMBACKUP", 1
_TAG_BYTES = 16
_MAX_HEADER_BYTES = 1_000
# 128 MiB and about half a second for each guess (OWASP's first recommendation for scrypt).
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 2**17, 8, 1
# What a forged header may ask of this machine.
_MOST_SCRYPT_N = 2**20
_CHECK, _MORE, _LAST = 0, 1, 2


class _Cipher:
    """The file's key, made of the passphrase and the header's salt; ``header`` is the bytes that are authenticated."""

    def __init__(self, passphrase: str, header: bytes, parameters: dict[str, Any]) -> None:
        n, r, p = parameters["n"], parameters["r"], parameters["p"]
        key = scrypt(
            passphrase.encode("utf-8", "surrogateescape"),
            salt=bytes.fromhex(parameters["salt"]),
            n=n,
            r=r,
            p=p,
            maxmem=132 * n * r + 2**20,
            dklen=32,
        )
        self._header = header
        self._aead = AESGCM(key)

    def seal(self, number: int, kind: int, plaintext: bytes) -> bytes:
        return self._aead.encrypt(_nonce(number, kind), plaintext, self._header)

    def open(self, number: int, kind: int, ciphertext: bytes) -> bytes:
        return self._aead.decrypt(_nonce(number, kind), ciphertext, self._header)


class Writer:
    """Encrypts what is written to it; `close` writes the last chunk, without which the file is not whole."""

    def __init__(self, file: BinaryIO, passphrase: str) -> None:
        parameters = {"n": _SCRYPT_N, "r": _SCRYPT_R, "p": _SCRYPT_P, "salt": os.urandom(32).hex()}
        text = json.dumps({"kdf": "scrypt", **parameters, "cipher": "AES-256-GCM", "chunk": CHUNK_BYTES}).encode()
        header = _MAGIC + bytes([_VERSION]) + struct.pack(">I", len(text)) + text
        self._file = file
        self._cipher = _Cipher(passphrase, header, parameters)
        self._number = 0
        self._waiting = bytearray()
        file.write(header + self._cipher.seal(0, _CHECK, b""))

    def write(self, data: bytes | memoryview) -> None:
        self._waiting += data
        while len(self._waiting) > CHUNK_BYTES:
            self._put(_MORE, bytes(self._waiting[:CHUNK_BYTES]))
            del self._waiting[:CHUNK_BYTES]

    def close(self) -> None:
        """Write what is left. The file itself is the caller's to close."""
        self._put(_LAST, bytes(self._waiting))
        self._waiting.clear()

    def _put(self, kind: int, plaintext: bytes) -> None:
        self._file.write(self._cipher.seal(self._number, kind, plaintext))
        self._number += 1


class Reader:
    """Opens a file from its beginning; `chunks` may be read once.

    Raises `InvalidInput` for what is no backup, for a wrong passphrase, and while reading for damage.
    """

    def __init__(self, file: BinaryIO, passphrase: str) -> None:
        start = file.read(len(_MAGIC) + 5)
        if len(start) < len(_MAGIC) + 5 or not start.startswith(_MAGIC):
            raise InvalidInput("This is not a backup of this product, or its beginning is damaged.")
        if start[len(_MAGIC)] != _VERSION:
            raise InvalidInput(f"The backup is of format {start[len(_MAGIC)]}; this release reads format {_VERSION}.")
        (length,) = struct.unpack(">I", start[-4:])
        text = file.read(min(length, _MAX_HEADER_BYTES))
        parameters = _parameters(text if len(text) == length else b"")
        self._file = file
        self._chunk_bytes: int = parameters["chunk"]
        self._cipher = _Cipher(passphrase, start + text, parameters)
        try:
            self._cipher.open(0, _CHECK, file.read(_TAG_BYTES))
        except InvalidTag:
            raise InvalidInput("The passphrase is wrong, or the beginning of the backup is damaged.") from None

    def chunks(self) -> Iterator[bytes]:
        """Yield the content. All of it is genuine only when this ends without an error."""
        size = self._chunk_bytes + _TAG_BYTES
        current, number = self._file.read(size), 0
        while True:
            following = self._file.read(size)
            try:
                yield self._cipher.open(number, _MORE if following else _LAST, current)
            except InvalidTag:
                raise InvalidInput(
                    f"The backup is damaged: chunk {number} was altered, or the end is missing or longer."
                ) from None
            if not following:
                return
            current, number = following, number + 1


def _nonce(number: int, kind: int) -> bytes:
    return struct.pack(">xxxQB", number, kind)


def _parameters(text: bytes) -> dict[str, Any]:
    try:
        parameters: dict[str, Any] = json.loads(text)
        n, r, p, chunk = (parameters[name] for name in ("n", "r", "p", "chunk"))
        is_sane = (
            all(type(number) is int for number in (n, r, p, chunk))
            and 2 <= n <= _MOST_SCRYPT_N
            and n & (n - 1) == 0
            and (r, p) == (_SCRYPT_R, _SCRYPT_P)
            and 0 < chunk <= 16 * CHUNK_BYTES
            and (parameters["kdf"], parameters["cipher"]) == ("scrypt", "AES-256-GCM")
            and 16 <= len(bytes.fromhex(parameters["salt"])) <= 64
        )
    except (ValueError, KeyError, TypeError):
        is_sane = False
    if not is_sane:
        raise InvalidInput("This is not a backup of this product, or its beginning is damaged.")
    return parameters
