"""Tells a pair of tokens from another one without keeping it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from connections.oauth.tokens import Tokens
from external_apis.data_keys import data_keys
from external_apis.models import DataKey

__all__ = ["is_of", "keyed", "plain", "plain_of_stored"]


def plain(tokens: Tokens) -> str:
    """Return a digest that is itself to be sealed: whoever has a token can try it."""
    return _digest(tokens.access_token, tokens.token_secret or tokens.refresh_token)


def plain_of_stored(secrets: Mapping[str, str]) -> str:
    """Return the same of a connection's opened secrets."""
    if "oauth_token" in secrets:
        return _digest(secrets["oauth_token"], secrets.get("oauth_token_secret"))
    return _digest(secrets.get("access_token", ""), secrets.get("refresh_token"))


def keyed(digest: str, tenant_id: str | None) -> str:
    """Return what may stand in clear: the digest under the tenant's data key."""
    return data_keys().writing(tenant_id).fingerprint(digest)


def is_of(stored: str, digest: str, tenant_id: str | None) -> bool:
    """Whether a stored one is that of this digest, also where the tenant's data key was replaced since."""
    if keyed(digest, tenant_id) == stored:
        return True
    older = DataKey.objects.filter(tenant_id=tenant_id, shredded_at=None).exclude(replaced_at=None)
    return any(data_keys().opening(pk).fingerprint(digest) == stored for pk in older.values_list("pk", flat=True))


def _digest(token: str, other: str | None) -> str:
    return hashlib.sha256(json.dumps([token, other or ""]).encode()).hexdigest()
