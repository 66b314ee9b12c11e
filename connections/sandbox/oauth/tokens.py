"""Tokens that carry their own facts under a MAC, and the families that they belong to.

So no list of tokens is kept, and those of a newcomer outlive a restart of the sandbox: a family that was forgotten is
taken up again where the presented token says that it stood.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from connections.sandbox.credentials import ISSUED_PREFIX, SIGNING_KEY

__all__ = ["Family", "Token", "derive_secret", "issue", "read"]


@dataclass
class Family:
    """Everything that came of one consent. ``generation`` counts its refresh tokens: only the newest one is good."""

    client_id: str
    scopes: list[str]
    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    generation: int = 0
    is_revoked: bool = False


@dataclass(frozen=True, slots=True)
class Token:
    """What a token of ours says about itself; ``expires_at`` is in seconds since 1970."""

    kind: str
    client_id: str
    family: str
    generation: int
    scopes: list[str]
    expires_at: float

    @property
    def is_expired(self) -> bool:
        return time.time() >= self.expires_at


def issue(kind: str, family: Family, life_seconds: float) -> str:
    """A new token (``access``, ``refresh`` or ``oauth1``) of a family; no two are the same."""
    claims = [
        kind,
        family.client_id,
        family.id,
        family.generation,
        family.scopes,
        time.time() + life_seconds,
        secrets.token_urlsafe(6),
    ]
    payload = _encode(json.dumps(claims, separators=(",", ":")).encode())
    return f"{ISSUED_PREFIX}{payload}.{_mac(payload)}"


def read(text: str, kind: str) -> Token | None:
    """The token, None when it is not one of that kind or not of ours."""
    payload, _, mac = text.removeprefix(ISSUED_PREFIX).partition(".")
    if not text.startswith(ISSUED_PREFIX) or not hmac.compare_digest(mac.encode(), _mac(payload).encode()):
        return None
    try:
        claims: list[Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (binascii.Error, ValueError):
        return None
    token = Token(*claims[:6])
    return token if token.kind == kind else None


def derive_secret(token: str) -> str:
    """The secret beside an OAuth 1.0a token."""
    return f"{ISSUED_PREFIX}{_mac(f'secret of {token}')}"


def _mac(text: str) -> str:
    return _encode(hmac.new(SIGNING_KEY.encode(), text.encode(), hashlib.sha256).digest())


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
