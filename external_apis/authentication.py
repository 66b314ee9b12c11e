"""Who is asking through REST: the holder of a key or of a token made from one, or a signed-in user."""

from __future__ import annotations

import hmac
from typing import Protocol

import structlog
from django.conf import settings
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.request import Request

from external_apis import key_lookup, key_use, request_context
from external_apis.errors import (
    ApiKeyNotConfigured,
    ApiManagerError,
    Forbidden,
    InvalidApiKey,
    InvalidAuthScheme,
    InvalidToken,
    MissingAuthHeader,
    NotAuthenticated,
)
from external_apis.key_format import is_like_key, is_publishable
from external_apis.key_holder import ADMIN, ADMIN_KEY_ID, KeyHolder
from external_apis.key_lookup import StoredKey, is_configured
from external_apis.models import KeyType
from external_apis.tokens import decode_jwt, is_like_jwt

__all__ = [
    "AnyKeyOrSessionAuthentication",
    "BearerAuthentication",
    "BearerOrSessionAuthentication",
    "KeyFinder",
    "KeyHolder",
    "StaffSessionAuthentication",
    "authenticate_token",
    "bearer_token",
]

log = structlog.get_logger(__name__)


class KeyFinder(Protocol):
    """Where stored keys are looked up: `key_lookup`, or `kept_keys` where a second's delay is worth a query."""

    def find_by_id(self, key_id: str) -> StoredKey | None: ...

    def find_by_token(self, token: str) -> StoredKey | None: ...


def authenticate_token(
    token: str, address: str | None, type_: str = KeyType.SECRET, finder: KeyFinder = key_lookup
) -> KeyHolder:
    """Return who holds ``ADMIN_API_KEY``, a stored key of this type, or one of our JWTs; at most one query.

    ``address`` is the peer's. Names the holder as the actor of the request. Unless another ``finder`` is given nothing
    is kept from one request to the next: a revoked key is dead at once, with the tokens made from it.
    Raises `InvalidApiKey`, `InvalidToken`, `TokenExpired`, `Forbidden` for a key of the other type and for an address
    that the key's networks do not hold, and `ApiKeyNotConfigured`.
    """
    try:
        holder = _holder_of(token, address, type_, finder)
    except NotAuthenticated as error:
        key_use.note_failure(address, error)
        raise _or_not_configured(error) from None
    request_context.set_actor(holder.actor, api_key_id=holder.key_id)
    return holder


def bearer_token(header: str | None) -> str:
    """Return what an ``Authorization`` header carries. Raises `MissingAuthHeader` and `InvalidAuthScheme`."""
    if header is None:
        raise _or_not_configured(MissingAuthHeader("No Authorization header provided."))
    if not header.strip():
        # Granian hands on a header with other bytes as an empty one.
        message = "The Authorization header is empty, or holds characters beyond ASCII."
        raise _or_not_configured(MissingAuthHeader(message))
    scheme, _, token = header.strip().partition(" ")
    if scheme.lower() != "bearer":
        raise _or_not_configured(InvalidAuthScheme("Invalid authorization scheme (use Bearer)."))
    return token.strip()


class BearerAuthentication(BaseAuthentication):
    """``Authorization: Bearer`` and a secret key or a JWT; nothing else will do. Raises as `authenticate_token`."""

    finder: KeyFinder = key_lookup

    def authenticate(self, request: Request) -> tuple[KeyHolder, None] | None:
        token = bearer_token(request.headers.get("Authorization"))
        return authenticate_token(token, request_context.current().address, finder=self.finder), None

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class BearerOrSessionAuthentication(BearerAuthentication):
    """The same for routes that take a session too: a request without a bearer token is left to the next class.

    A wrong token is refused, so that a session never stands in for it.
    """

    def authenticate(self, request: Request) -> tuple[KeyHolder, None] | None:
        scheme = request.headers.get("Authorization", "").strip().partition(" ")[0]
        return super().authenticate(request) if scheme.lower() == "bearer" else None


class AnyKeyOrSessionAuthentication(BearerOrSessionAuthentication):
    """The same for what is public to a tenant: a publishable key will do as well."""

    def authenticate(self, request: Request) -> tuple[KeyHolder, None] | None:
        scheme, _, token = request.headers.get("Authorization", "").strip().partition(" ")
        if scheme.lower() == "bearer" and is_publishable(token.strip()):
            return authenticate_token(token.strip(), request_context.current().address, KeyType.PUBLISHABLE), None
        return super().authenticate(request)


class StaffSessionAuthentication(SessionAuthentication):
    """The admin's session cookie; unsafe methods need the CSRF token as well."""


# --- parts --------------------------------------------------------------------------------------------------------


def _holder_of(token: str, address: str | None, type_: str, finder: KeyFinder) -> KeyHolder:
    if _is_admin_key(token) and type_ == KeyType.SECRET:
        return ADMIN
    if is_like_jwt(token) and not is_like_key(token):
        claims = decode_jwt(token)
        if claims["sub"] == ADMIN_KEY_ID:
            return ADMIN
        return _admit(finder.find_by_id(claims["sub"]), address, type_, InvalidToken)
    return _admit(finder.find_by_token(token), address, type_, InvalidApiKey)


def _is_admin_key(token: str) -> bool:
    expected = settings.ADMIN_API_KEY.encode()
    # Headers are decoded as Latin-1; back to the bytes that were sent.
    return hmac.compare_digest(token.encode("latin-1", errors="replace"), expected) and bool(expected)


def _admit(key: StoredKey | None, address: str | None, type_: str, error: type[NotAuthenticated]) -> KeyHolder:
    if key is None:
        raise error("The API key is not valid.")
    if problem := key.problem(timezone.now()):
        raise error(problem)
    if key.type != type_:
        raise Forbidden(f"This needs a {type_} key.")
    if not key.allows(address):
        log.warning("API key refused: address is not allowed", key_id=key.id, address=address)
        raise Forbidden("The API key may not be used from this address.")
    key_use.note_use(key.id, address)
    return key.holder


def _or_not_configured(error: NotAuthenticated) -> ApiManagerError:
    if is_configured():
        return error
    return ApiKeyNotConfigured("No API key exists yet: set ADMIN_API_KEY, or make one with manage.py api_keys create.")
