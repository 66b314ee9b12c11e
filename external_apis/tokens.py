"""JWTs made from a key (seed 001): HS256 under ``JWT_SECRET``, for clients that would rather not send the key itself.

A token says what its key may do, for whoever reads it; what it may do is asked of the key anew with each request.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import jwt
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from external_apis import json_input, jwt_secrets
from external_apis.errors import InvalidInput, InvalidToken, TokenExpired
from external_apis.ids import new_id
from external_apis.jwt_secrets import derived_kid
from external_apis.key_holder import ADMIN_KEY_ID, KeyHolder

__all__ = ["AUDIENCE", "ISSUER", "Issued", "decode_jwt", "is_like_jwt", "issue_jwt"]

ISSUER = "external-api-manager"
AUDIENCE = "external-apis"
MAX_LENGTH = 8192
"""A longer token is not looked at."""

_ALGORITHM = "HS256"
_EXPIRED = "The token has expired. Request a new one with the API key."
_REQUIRED = ["aud", "exp", "iat", "iss", "jti", "sub"]


@dataclass(frozen=True)
class Issued:
    """A new token; ``expires_in`` counts seconds."""

    token: str
    expires_in: int
    expires_at: datetime

    def __repr__(self) -> str:
        return f"<Issued token, until {self.expires_at.isoformat()}>"


def issue_jwt(holder: KeyHolder) -> Issued:
    """Make a token with a key's rights, for ``ADMIN_API_JWT_TTL`` seconds or until the key is revoked.

    Raises `ImproperlyConfigured` without a ``JWT_SECRET``, and with one that is malformed.
    """
    ring = _ring(settings.JWT_SECRET)
    if ring.newest is None:
        raise ImproperlyConfigured("JWT_SECRET is not set: no tokens can be issued.")
    kid, secret = ring.newest
    now = timezone.now().replace(microsecond=0)
    expires_at = now + timedelta(seconds=settings.ADMIN_API_JWT_TTL)
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": holder.key_id,
        "jti": new_id("jwt"),
        "iat": now,
        "exp": expires_at,
        "tenant_id": holder.tenant_id,
        "scopes": sorted(holder.scopes),
        "mode": holder.mode,
    }
    if holder.key_id == ADMIN_KEY_ID:
        claims["key"] = _mark_of_admin_key()
    token = jwt.encode(claims, secret, algorithm=_ALGORITHM, headers={"kid": kid})
    return Issued(token, settings.ADMIN_API_JWT_TTL, expires_at)


def decode_jwt(token: str) -> dict[str, Any]:
    """Return the claims of a token of ours; whether its key (``sub``) still lives is for the caller to ask.

    Raises `TokenExpired`, and `InvalidToken` for any other algorithm, key id, audience, issuer or shape, and for one
    that was made from an ``ADMIN_API_KEY`` that has been replaced since.
    """
    if len(token) > MAX_LENGTH:
        raise InvalidToken("The token is too long.")
    try:
        claims = dict(_verified(token, settings.JWT_SECRET))
    except jwt.ExpiredSignatureError:
        raise TokenExpired(_EXPIRED) from None
    # The library lets some odd claims, such as an infinite time, through to Python's own errors.
    except (jwt.PyJWTError, InvalidInput, KeyError, ValueError, TypeError, OverflowError, RecursionError):
        raise InvalidToken("The token is malformed or invalid.") from None
    if int(claims["exp"]) <= time.time():
        raise TokenExpired(_EXPIRED)
    if claims["sub"] == ADMIN_KEY_ID and not _is_marked(claims):
        raise InvalidToken("The API key of this token has been replaced.")
    return claims


def is_like_jwt(token: str) -> bool:
    """Whether this is three parts with dots between, as a JWT in its compact form is (RFC 7519)."""
    return token.count(".") == 2


@dataclass(frozen=True, repr=False)
class _Ring:
    newest: tuple[str, str] | None
    by_kid: Mapping[str, str]


@lru_cache(maxsize=1024)
def _verified(token: str, secrets: str) -> dict[str, Any]:
    """Return the claims of a token that was signed with one of the secrets.

    That stays so, and verifying takes longer than to ask for the key; when the token ends is looked at each time.
    Raises what the library and Python raise.
    """
    header = json.loads(jwt.utils.base64url_decode(token.partition(".")[0]))
    claims = jwt.decode(
        token,
        _ring(secrets).by_kid[header["kid"]],
        algorithms=[_ALGORITHM],
        audience=AUDIENCE,
        issuer=ISSUER,
        options={"require": _REQUIRED},
    )
    # `sub` goes into a query.
    json_input.check(claims)
    return claims


@lru_cache(maxsize=4)
def _ring(text: str) -> _Ring:
    """Read ``JWT_SECRET``. Each secret is also known by the key id that it has when it stands there alone."""
    if not text:
        return _Ring(None, {})
    try:
        named = jwt_secrets.parse(text)
    except ValueError as error:
        raise ImproperlyConfigured(str(error)) from None
    return _Ring(next(iter(named.items())), {derived_kid(secret): secret for secret in named.values()} | dict(named))


def _mark_of_admin_key() -> str:
    """The installation's key has no row to be revoked in: a token is bound to the key itself."""
    bound = f"token of {settings.ADMIN_API_KEY}".encode()
    return hmac.new(settings.SECRET_KEY.encode(), bound, hashlib.sha256).hexdigest()[:24]


def _is_marked(claims: Mapping[str, Any]) -> bool:
    mark = claims.get("key")
    if not settings.ADMIN_API_KEY or not isinstance(mark, str):
        return False
    return hmac.compare_digest(mark.encode(), _mark_of_admin_key().encode())
