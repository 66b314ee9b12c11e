"""Whether an account is one that another connection here was imported of: by its tokens, and where they belong."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from connections.imports.social_platforms.accounts import Account
from connections.imports.social_platforms.owners import Owner
from connections.models import ExternalApiConnection
from external_apis.models import ExternalApi

__all__ = ["place_of", "places_of", "tokens_of"]

Place = tuple[Any, ...]
"""Of which provider, whose (tenant, partner and user), and of which page."""


def tokens_of(account: Account) -> str:
    """Return what tells an account's tokens from others: the refresh token, else all that there is."""
    secrets = account.credentials.secrets
    return secrets.get("refresh_token") or (json.dumps(sorted(secrets.items())) if secrets else "")


def place_of(account: Account, api: ExternalApi | None, owner: Owner) -> Place:
    """Return where an account is going to belong; ``api`` is None of one that a dry run does not make."""
    rows = (api, owner.tenant, owner.partner, owner.user)
    return (*(None if row is None else row.pk for row in rows), account.page or None)


def places_of(connection_ids: Iterable[str]) -> dict[str, Place]:
    """Return where imported connections belong."""
    columns = ("external_api_id", "tenant_id", "partner_id", "user_id", "provider_data__imported_from__page")
    rows = ExternalApiConnection.objects.filter(pk__in=set(connection_ids)).values_list("pk", *columns)
    return {pk: tuple(place) for pk, *place in rows}
