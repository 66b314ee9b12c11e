"""django-allauth's ``SocialToken`` with its ``SocialAccount`` and ``SocialApp``: tokens stand in clear in columns."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.utils import timezone

from connections.imports.django_oauth.old_rows import OldClient, OldRow, OldUser, read_token
from connections.oauth.tokens import Tokens
from external_apis.errors import InvalidInput

__all__ = ["ACCOUNT", "ACCOUNT_COLUMNS", "APP", "APP_COLUMNS", "COLUMNS", "KIND", "OAUTH1", "TABLE", "read_row"]

KIND = "allauth"
TABLE, ACCOUNT, APP = "socialaccount_socialtoken", "socialaccount_socialaccount", "socialaccount_socialapp"
COLUMNS = frozenset({"id", "account_id", "token", "token_secret"})
ACCOUNT_COLUMNS = frozenset({"id", "provider", "uid", "user_id"})
APP_COLUMNS = frozenset({"id", "client_id", "secret"})

OAUTH1 = frozenset({
    "500px", "discogs", "evernote", "flickr", "openstreetmap", "trello", "tumblr", "twitter", "vimeo", "xing",
})  # fmt: skip
"""Providers of the library that speak OAuth 1.0a: their ``token_secret`` is just that, all others' a refresh token."""


def read_row(row: Mapping[str, Any], user: OldUser | None) -> OldRow:
    """Return one token; what is wrong with it is its ``problem``."""
    tokens, problem = None, ""
    try:
        tokens = _tokens(row)
    except InvalidInput as error:
        problem = error.message
    client = OldClient(row["client_id"], row["client_secret"] or "") if row["client_id"] else None
    return OldRow(KIND, row["id"], row["provider"] or "", row["uid"] or "", user, client, tokens, problem)


def _tokens(row: Mapping[str, Any]) -> Tokens:
    access_token = read_token(row["token"], "token")
    other = read_token(row["token_secret"], "token_secret")
    if access_token is None:
        raise InvalidInput("its token is empty")
    if row["provider"] in OAUTH1 and other is not None:
        return Tokens(access_token, token_type="", token_secret=other)
    return Tokens(access_token, refresh_token=other, expires_at=_moment(row["expires_at"]))


def _moment(value: datetime | None) -> datetime | None:
    # A project without USE_TZ has naive times; of the zone nothing is known.
    return timezone.make_aware(value, UTC) if value is not None and timezone.is_naive(value) else value
