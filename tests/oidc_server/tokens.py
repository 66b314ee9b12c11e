"""What the provider's tokens hold: the claims that a test gave the user or the client."""

from __future__ import annotations

import secrets
import time
from typing import Any

from oauth2_provider.oauth2_validators import OAuth2Validator
from oauth2_provider.settings import oauth2_settings

from tests.oidc_server.keys import keys

claims_of: dict[str, dict[str, Any]] = {}
"""By user name, and by client id for tokens without a user."""


class Validator(OAuth2Validator):
    oidc_claim_scope = None

    def get_additional_claims(self, request: Any) -> dict[str, Any]:
        return claims_of.get(request.user.username, {})


def access_token(request: Any, refresh_token: bool = False) -> str:
    """Return a JWT as RFC 9068 has it, so that resource servers can check it by the JWKS; refresh tokens are opaque."""
    if refresh_token:
        return secrets.token_urlsafe(32)
    now = int(time.time())
    user = getattr(request, "user", None)
    client_id = request.client.client_id
    claims = {
        "iss": oauth2_settings.oidc_issuer(request),
        "sub": str(user.pk) if user else client_id,
        "aud": dict(request.decoded_body or ()).get("audience") or client_id,
        "client_id": client_id,
        "scope": " ".join(request.scopes or ()),
        "iat": now,
        "exp": now + 3600,
        "jti": secrets.token_hex(16),
        **claims_of.get(user.username if user else client_id, {}),
    }
    return keys.sign(claims, "RS256", "current", {"typ": "at+jwt"})
