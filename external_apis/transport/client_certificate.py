"""A client certificate and its key, for mutual TLS (RFC 8446 4.4.2)."""

from __future__ import annotations

import re
import secrets
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import NoReturn

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

__all__ = ["ClientCertificate"]

_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)


@dataclass(frozen=True, slots=True, repr=False)
class ClientCertificate:
    """``chain`` and ``key`` are PEM; the key is that of the first certificate. Never printed, never pickled."""

    chain: bytes
    key: bytes

    @classmethod
    def read(cls, chain: str, key: str) -> ClientCertificate:
        """Read both from texts whose line breaks may have been lost in a form.

        Raises ValueError, with a message that quotes nothing, for what is not PEM, a key under a pass phrase, and a key
        of another certificate.
        """
        try:
            certificates = x509.load_pem_x509_certificates(_with_lines(chain))
        except ValueError:
            raise ValueError("the certificate is not PEM") from None
        try:
            private = load_pem_private_key(_with_lines(key), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ValueError("the key is not a PEM private key without a pass phrase") from None
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if certificates[0].public_key().public_bytes(*form) != private.public_key().public_bytes(*form):
            raise ValueError("the key is not the certificate's")
        return cls(_with_lines(chain), _with_lines(key))

    def load_into(self, context: ssl.SSLContext) -> None:
        """Have a TLS context show this certificate to servers that ask for one."""
        # OpenSSL reads files only. What lies there for a moment is sealed under a password that nobody else has.
        password = secrets.token_bytes(32).hex().encode()
        private = load_pem_private_key(self.key, password=None)
        sealed = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password))
        with tempfile.TemporaryDirectory() as folder:
            chain, key = Path(folder, "chain.pem"), Path(folder, "key.pem")
            chain.write_bytes(self.chain)
            key.write_bytes(sealed)
            context.load_cert_chain(chain, key, password)

    def __repr__(self) -> str:
        return "<ClientCertificate>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A client certificate holds a secret and is not pickled.")


def _with_lines(text: str) -> bytes:
    blocks = []
    for label, body in _PEM.findall(text):
        lines = wrap("".join(body.split()), 64)
        blocks.append("\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]))
    return "".join(blocks).encode()
