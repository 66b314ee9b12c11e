"""Bearer tokens of issuers that ``SERVICE_API_ISSUERS`` trusts: JWTs (RFC 7519) signed with a published key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jwt
from django.conf import settings

from external_apis import json_input
from external_apis.errors import InvalidInput, InvalidToken, TokenExpired
from external_apis.issuer_keys import ALGORITHMS, IssuerKeys
from external_apis.trusted_issuers import TrustedIssuer

__all__ = ["MAX_TOKEN_LENGTH", "OutsideToken", "issuer_of", "verify"]

MAX_TOKEN_LENGTH = 8192
_LEEWAY_SECONDS = 30
_UNREADABLE = "The token cannot be read."


@dataclass(frozen=True, slots=True)
class OutsideToken:
    """What a verified token says. ``tenant`` is a tenant's id or slug, empty where the token names none."""

    issuer: str
    subject: str
    tenant: str
    scopes: frozenset[str]
    claims: Mapping[str, Any]


def issuer_of(token: str) -> TrustedIssuer | None:
    """Return the trusted issuer that a token says it is from, without believing it; None for anything else."""
    if len(token) > MAX_TOKEN_LENGTH or not settings.SERVICE_API_ISSUERS:
        return None
    try:
        claimed = jwt.decode(token, options={"verify_signature": False}).get("iss")
    except (jwt.PyJWTError, ValueError, RecursionError):
        return None
    return next((issuer for issuer in settings.SERVICE_API_ISSUERS if issuer.issuer == claimed), None)


def verify(token: str, issuer: TrustedIssuer) -> OutsideToken:
    """Check signature, issuer, audience and times (with 30 s of leeway for clocks) of an issuer's token.

    The algorithm comes from the key and not from the token, and nothing that a token's header points to is fetched.
    Raises `InvalidToken`, `TokenExpired`, and `ServiceUnavailable` where the issuer's keys cannot be had.
    """
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise InvalidToken(_UNREADABLE) from None
    algorithm = header.get("alg")
    if algorithm not in ALGORITHMS:
        raise InvalidToken(f"The token has to be signed with {', '.join(ALGORITHMS)}.")
    if "crit" in header:
        raise InvalidToken("The token wants something understood that is not.")
    key = _keys_of(issuer.issuer).find(header.get("kid"), algorithm)
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=issuer.audience,
            issuer=issuer.issuer,
            leeway=_LEEWAY_SECONDS,
            options={"require": ["exp", "iss", "aud"]},
        )
        # Claims reach the database, the log and answers.
        json_input.check(claims)
    except jwt.ExpiredSignatureError:
        raise TokenExpired("The token has expired.") from None
    except jwt.InvalidAudienceError:
        raise InvalidToken("The token is meant for another audience.") from None
    # The library lets some odd claims, such as an infinite time, through to Python's own errors.
    except (jwt.PyJWTError, InvalidInput, ValueError, TypeError, OverflowError, RecursionError):
        raise InvalidToken("The token is not valid.") from None
    return OutsideToken(
        issuer=issuer.issuer,
        subject=str(claims.get("sub", "")),
        tenant=_text(claims.get(issuer.tenant_claim)),
        scopes=_scopes(claims.get(issuer.scopes_claim)),
        claims=claims,
    )


@lru_cache(maxsize=64)
def _keys_of(issuer: str) -> IssuerKeys:
    return IssuerKeys(issuer)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _scopes(value: Any) -> frozenset[str]:
    if isinstance(value, str):
        return frozenset(value.split())
    if isinstance(value, list):
        return frozenset(item for item in value if isinstance(item, str))
    return frozenset()
