"""JWT assertions that are exchanged for tokens (RFC 7523), from a PEM or the JSON of a Google service account."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm

from external_apis.errors import MissingCredential
from external_apis.url_variables import fill_text

if TYPE_CHECKING:
    from external_apis.oauth_config import JwtBearer

__all__ = ["make_assertion"]

_BACKDATED_SECONDS = 10


@dataclass(frozen=True, slots=True, repr=False)
class _Signer:
    """A private key, and what belongs to it."""

    private_key: str
    key_id: str = ""
    issuer: str = ""


def make_assertion(
    block: JwtBearer, token_url: str, variables: Mapping[str, str], credentials: Mapping[str, str], now: datetime
) -> str:
    """Return a signed assertion; a connection's own issuer, subject, key and key id go before the provider's.

    Raises `MissingCredential` where there is no usable private key or no issuer.
    """
    own = block.private_key.get_secret_value() if block.private_key else ""
    signer = _signer(credentials.get("private_key") or own)
    issuer = credentials.get("issuer") or signer.issuer or fill_text(block.issuer or "", variables)
    if not issuer:
        raise _unusable("issuer", "There is no issuer for the assertion.")
    issued_at = int(now.timestamp())
    claims: dict[str, Any] = {
        **block.claims,
        "iss": issuer,
        "aud": fill_text(block.audience, variables) if block.audience else token_url,
        "iat": issued_at - _BACKDATED_SECONDS,  # their clock may be behind ours
        "exp": issued_at + block.assertion_seconds,
        "jti": token_urlsafe(16),
        "sub": credentials.get("subject") or fill_text(block.subject or "", variables) or issuer,
    }
    if block.scopes:
        claims["scope"] = block.scope_separator.join(block.scopes)
    key_id = credentials.get("key_id") or signer.key_id or block.key_id
    try:
        return jwt.encode(claims, signer.private_key, block.algorithm, headers={"kid": key_id} if key_id else None)
    except (jwt.PyJWTError, ValueError, TypeError, UnsupportedAlgorithm):
        kind = "RSA" if block.algorithm == "RS256" else "P-256"
        raise _unusable("private_key", f"The private_key is no {kind} key in PEM.") from None


def _signer(text: str) -> _Signer:
    if not text:
        raise _unusable("private_key", "There is no private_key to sign the assertion with.")
    if not text.lstrip().startswith("{"):
        return _Signer(text)
    try:
        account = json.loads(text)
        values = [account["private_key"], account.get("private_key_id", ""), account["client_email"]]
    except (ValueError, KeyError, RecursionError):
        values = [None]
    if not all(isinstance(value, str) for value in values):
        raise _unusable("private_key", "The private_key is neither a PEM nor the JSON of a service account.")
    # Its token_uri is not read: where assertions go is the provider's configuration alone.
    return _Signer(*values)


def _unusable(name: str, message: str) -> MissingCredential:
    return MissingCredential(message, details={"credential": name})
