"""social-auth-app-django's ``UserSocialAuth``: tokens stand in clear in the JSON of ``extra_data``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from connections.imports.django_oauth.expiry import read_expiry
from connections.imports.django_oauth.old_rows import OldRow, OldUser, read_object, read_token
from connections.oauth.tokens import Tokens
from external_apis.errors import InvalidInput

__all__ = ["COLUMNS", "KIND", "TABLE", "read_row"]

KIND = "social_auth"
TABLE = "social_auth_usersocialauth"
COLUMNS = frozenset({"id", "provider", "uid", "user_id", "extra_data"})
_MOST_SCOPES = 500
# RFC 6749, section 3.3.
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,500}")


def read_row(row: Mapping[str, Any], user: OldUser | None) -> OldRow:
    """Return one row; what is wrong with it is its ``problem``."""
    tokens, problem = None, ""
    try:
        tokens = _tokens(read_object(row["extra_data"]))
    except InvalidInput as error:
        problem = error.message
    return OldRow(KIND, row["id"], row["provider"] or "", row["uid"] or "", user, None, tokens, problem)


def _tokens(data: Mapping[str, Any]) -> Tokens:
    found = data.get("access_token")
    if isinstance(found, Mapping):  # OAuth 1.0a
        access_token = read_token(found.get("oauth_token"), "oauth_token")
        secret = read_token(found.get("oauth_token_secret"), "oauth_token_secret")
        if access_token is None or secret is None:
            raise InvalidInput("extra_data holds no oauth_token with its secret")
        return Tokens(access_token, token_type="", token_secret=secret)
    access_token = read_token(found, "access_token")
    if access_token is None:
        raise InvalidInput("extra_data holds no access_token")
    token_type = data.get("token_type")
    return Tokens(
        access_token,
        refresh_token=read_token(data.get("refresh_token"), "refresh_token"),
        token_type=token_type[:50] if isinstance(token_type, str) and token_type.isalnum() else "Bearer",
        expires_at=read_expiry(data),
        scopes=_scopes(data.get("scope")),
    )


def _scopes(value: Any) -> tuple[str, ...] | None:
    words = re.split(r"[\s,]+", value) if isinstance(value, str) else value
    if not isinstance(words, list):
        return None
    named = dict.fromkeys(word for word in words if isinstance(word, str) and _SCOPE.fullmatch(word))
    return tuple(named)[:_MOST_SCOPES]
