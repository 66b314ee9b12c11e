"""``/api/external/auth``: a key for a token, and who asks."""

from __future__ import annotations

from typing import Any, Literal

from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response

from external_apis import tokens
from external_apis.admin_api.frame import ResourceView
from external_apis.admin_api.operations import CamelAnswer, reads, writes
from external_apis.authentication import KeyHolder, bearer_token
from external_apis.errors import InvalidApiKey
from external_apis.json_output import Timestamp, timestamp
from external_apis.throttling import Quota


class IssuedToken(CamelAnswer):
    token: str
    token_type: Literal["Bearer"]
    expires_in: int
    """Seconds."""
    expires_at: Timestamp


class Asker(CamelAnswer):
    """Whose key was sent, or made the token that was sent."""

    key_id: str
    title: str
    type: str
    mode: str | None
    """`live` or `test`; null where the key sees both live rows and the sandbox's."""
    tenant_id: str | None
    """Null where the key is not bound to a tenant."""
    scopes: list[str]
    rate_limit: int
    """Requests an hour."""


class TokenExchange(ResourceView):
    @writes("validate_key", None, None, IssuedToken, "Exchange an API key for a short-lived token")
    def post(self, request: Request) -> Response:
        if tokens.is_like_jwt(bearer_token(request.headers["Authorization"])):
            # Else a token that leaked once could be renewed for ever.
            raise InvalidApiKey("Send the API key itself; a token is not exchanged for another one.")
        issued = tokens.issue_jwt(self.asker)
        return self.answer(
            {
                "token": issued.token,
                "tokenType": "Bearer",
                "expiresIn": issued.expires_in,
                "expiresAt": timestamp(issued.expires_at),
            }
        )


class Me(ResourceView):
    @reads("get_asker", None, Asker, "Tell whose key or token this is")
    def get(self, request: Request) -> Response:
        return self.answer(_shown(self.asker, self.quota))


def _shown(holder: KeyHolder, quota: Quota) -> dict[str, Any]:
    item = Asker.model_construct(
        key_id=holder.key_id,
        title=holder.title,
        type=holder.type,
        mode=holder.mode,
        tenant_id=holder.tenant_id,
        scopes=sorted(holder.scopes),
        rate_limit=quota.limit,
    )
    return item.model_dump(mode="json", by_alias=True)


routes = [
    path("auth/validate", TokenExchange.as_view()),
    path("auth/me", Me.as_view()),
]
