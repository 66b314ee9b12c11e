"""Whether an account is one that was seen before or that another connection here was imported of: by its tokens, and
where they belong."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from connections.imports.social_platforms.accounts import Account
from connections.imports.social_platforms.owners import Owner
from connections.models import ExternalApiConnection
from external_apis.models import ExternalApi

__all__ = ["Place", "Seen", "mark_of", "place_of", "places_of"]

Place = tuple[Any, ...]
"""Of which provider, whose (tenant, partner and user), and of which page."""


class Seen:
    """What one import has seen so far: three numbers of every account, some hundred bytes."""

    def __init__(self) -> None:
        self._digests: set[int] = set()

    def notice(
        self, account: Account, owner: Owner, platform_id: str, user_id: str, *, is_gone: bool = False
    ) -> tuple[bool, bool, bool]:
        """Keep an account in mind, and tell whether the very same one, whether another one of its refresh token, and
        whether another one of its page was there before. ``platform_id`` and ``user_id`` are the old ones.

        One that ``is_gone`` here has no grant and no page any more; all the same its twin does not bring it back.
        """
        secrets = account.credentials.secrets
        place = (platform_id, user_id, *place_of(account, None, owner))
        page = _digest(platform_id, account.page) if account.page else None
        grant = _digest("grant", token) if (token := secrets.get("refresh_token")) else None
        whole = _digest(place, sorted(secrets.items())) if secrets else None
        before = whole in self._digests, grant in self._digests, page in self._digests
        kept = (whole,) if is_gone or whole in self._digests else (whole, grant, page)
        self._digests |= {one for one in kept if one is not None}
        return before


def mark_of(account: Account, place: Place) -> str:
    """Return what tells an account from all others: its refresh token wherever it belongs, or else its tokens and its
    place (`place_of`), because pages may share an access token."""
    secrets = account.credentials.secrets
    return secrets.get("refresh_token") or (json.dumps([place, sorted(secrets.items())]) if secrets else "")


def place_of(account: Account, api: ExternalApi | None, owner: Owner) -> Place:
    """Return where an account is going to belong; ``api`` is None of one that a dry run does not make."""
    rows = (api, owner.tenant, owner.partner, owner.user)
    return (*(None if row is None else row.pk for row in rows), account.page or None)


def places_of(connection_ids: Iterable[str]) -> dict[str, Place]:
    """Return where imported connections belong."""
    columns = ("external_api_id", "tenant_id", "partner_id", "user_id", "provider_data__imported_from__page")
    rows = ExternalApiConnection.objects.filter(pk__in=set(connection_ids)).values_list("pk", *columns)
    return {pk: tuple(place) for pk, *place in rows}


def _digest(*parts: object) -> int:
    """Return 64 bits that tell one from another, and say nothing of it: of texts, whose ``repr`` leaves nothing out."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big")
