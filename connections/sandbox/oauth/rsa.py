"""RSA signatures of PKCS #1 v1.5 (RFC 8017, section 8.2.2), verified with the standard library alone."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

# DER of DigestInfo up to the digest (RFC 8017, section 9.2, note 1).
_PREFIXES = {
    "sha1": bytes.fromhex("3021300906052b0e03021a05000414"),
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
}
_LONGEST_BYTES = 1_024


def is_signed(key: Mapping[str, str], digest: str, message: bytes, signature: bytes) -> bool:
    """Whether the owner of the JWK ``key`` signed the message; ``digest`` is sha1 or sha256."""
    try:
        modulus, exponent = (int.from_bytes(decode(key[name]), "big") for name in ("n", "e"))
    except (binascii.Error, ValueError):
        return False
    size = (modulus.bit_length() + 7) // 8
    found = int.from_bytes(signature, "big")
    if not 64 <= size <= _LONGEST_BYTES or len(signature) != size or found >= modulus:
        return False
    info = _PREFIXES[digest] + hashlib.new(digest, message).digest()
    expected = b"\x00\x01" + b"\xff" * (size - len(info) - 3) + b"\x00" + info
    return hmac.compare_digest(pow(found, exponent, modulus).to_bytes(size, "big"), expected)


def decode(text: str) -> bytes:
    """Base64 for URLs, without its padding."""
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
