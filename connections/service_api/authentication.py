"""Who asks at ``/exsvc``: the holder of a key or of one of our JWTs, or of a token from an outside issuer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.db.models import Q
from rest_framework.request import Request

from external_apis import key_use, outside_tokens, request_context
from external_apis.authentication import BearerAuthentication, authenticate_token, bearer_token
from external_apis.errors import Forbidden, NotAuthenticated
from external_apis.ids import can_name
from external_apis.key_holder import KeyHolder
from external_apis.models import KeyMode, Tenant
from external_apis.outside_tokens import OutsideToken
from external_apis.tokens import decode_jwt, is_like_jwt

__all__ = ["OutsideHolder", "ServiceAuthentication"]

OUTSIDE_SCOPES = frozenset(("services:read", "services:write", "credentials:read"))
"""What an outside issuer may grant; any other scope of its tokens has no meaning here, ``*`` included."""

_MAX_SUBJECT = 100


@dataclass(frozen=True)
class OutsideHolder(KeyHolder):
    """The bearer of an outside issuer's token: bound to its tenant, to what is live, and to this API."""

    issuer: str = ""

    @property
    def actor(self) -> str:
        return f"token:{self.title}@{urlsplit(self.issuer).netloc}"


class ServiceAuthentication(BearerAuthentication):
    """Raises as `authenticate_token` does; `Forbidden` for a good token that names no active tenant of ours.

    ``request.auth`` is what is known of the bearer, as ``/debug/auth`` shows it.
    """

    def authenticate(self, request: Request) -> tuple[KeyHolder, Any] | None:
        token = bearer_token(request.headers.get("Authorization"))
        address = request_context.current().address
        issuer = outside_tokens.issuer_of(token)
        if issuer is None:
            holder = authenticate_token(token, address)
            return holder, decode_jwt(token) if is_like_jwt(token) else _claims_of(holder)
        try:
            verified = outside_tokens.verify(token, issuer)
        except NotAuthenticated as error:
            key_use.note_failure(address, error)
            raise
        outside = _holder_of(verified)
        request_context.set_actor(outside.actor)
        return outside, verified.claims


def _holder_of(token: OutsideToken) -> OutsideHolder:
    """Bind a verified token to the tenant that it names by id or slug; an id goes before a slug."""
    rows = Tenant.objects.filter(Q(pk=token.tenant) | Q(slug=token.tenant), is_active=True)
    found = sorted(rows, key=lambda row: row.pk != token.tenant) if token.tenant and can_name(token.tenant) else []
    if not found:
        raise Forbidden("The token names no active tenant of this installation.")
    subject = "".join(character if character.isprintable() else "?" for character in token.subject)
    return OutsideHolder(
        key_id="",
        title=subject[:_MAX_SUBJECT],
        mode=KeyMode.LIVE,
        tenant_id=found[0].pk,
        scopes=token.scopes & OUTSIDE_SCOPES,
        issuer=token.issuer,
    )


def _claims_of(holder: KeyHolder) -> Mapping[str, Any]:
    """What a token made from the key would say."""
    return {
        "sub": holder.key_id,
        "tenant_id": holder.tenant_id,
        "scopes": sorted(holder.scopes),
        "mode": holder.mode,
    }
