"""JWT assertions in place of a password (RFC 7523), as Google's service accounts send them; RS256 alone."""

from __future__ import annotations

import binascii
import json
import time
from typing import Any

from connections.sandbox.oauth.clients import Client
from connections.sandbox.oauth.denials import Denial
from connections.sandbox.oauth.rsa import decode, is_signed

LIFE_SECONDS = 3_600
LEEWAY_SECONDS = 60


def read_issuer(assertion: str) -> str:
    """The client that an assertion names, before anything of it is believed; empty when it names none."""
    return str(_read_part(assertion, 1).get("iss", ""))


def check_assertion(client: Client, assertion: str, audiences: set[str]) -> dict[str, Any]:
    """The claims of an assertion that the client really made, for us, and just now; raises `Denial`."""
    header, claims = _read_part(assertion, 0), _read_part(assertion, 1)
    if client.rsa_key is None:
        raise _refuse("This client has no registered key")
    if header.get("alg") != "RS256":
        raise _refuse("The algorithm must be RS256")
    if "kid" in client.rsa_key and header.get("kid") != client.rsa_key["kid"]:
        raise _refuse("The key id is not that of the registered key")
    signed, _, signature = assertion.rpartition(".")
    try:
        is_true = is_signed(client.rsa_key, "sha256", signed.encode(), decode(signature))
    except (binascii.Error, ValueError) as error:
        raise _refuse("The signature is malformed") from error
    if not is_true:
        raise _refuse("The signature does not match")
    _check_claims(claims, audiences)
    return claims


def _check_claims(claims: dict[str, Any], audiences: set[str]) -> None:
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    if not audiences & {name for name in named if isinstance(name, str)}:
        raise _refuse("The audience must be this token endpoint")
    expires_at, issued_at, now = claims.get("exp"), claims.get("iat"), time.time()
    if not isinstance(expires_at, int) or not isinstance(issued_at, int):
        raise _refuse("exp and iat must be whole seconds since 1970")
    if expires_at <= now:
        raise _refuse("The assertion has expired")
    if expires_at - issued_at > LIFE_SECONDS:
        raise _refuse(f"An assertion may live {LIFE_SECONDS} seconds at most")
    if issued_at > now + LEEWAY_SECONDS:
        raise _refuse("The assertion comes from the future")


def _read_part(assertion: str, position: int) -> dict[str, Any]:
    parts = assertion.split(".")
    try:
        part = json.loads(decode(parts[position])) if len(parts) == 3 else None
    except (binascii.Error, ValueError, RecursionError):
        part = None
    if not isinstance(part, dict):
        raise _refuse("The assertion is no JWT")
    return part


def _refuse(description: str) -> Denial:
    return Denial("invalid_grant", description)
