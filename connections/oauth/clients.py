"""Clients that have a refused access token replaced, once for a call."""

from __future__ import annotations

from contextlib import suppress

from connections.client import ApiClient, Target
from connections.oauth.refresh import replace_token
from connections.opening import DecryptedConnection, can_be_renewed, open_connection, target_of
from external_apis.errors import NotFound

__all__ = ["make_client"]


def make_client(opened: DecryptedConnection, target: Target) -> ApiClient:
    """Return a client of its own for ``target``, which was made of ``opened``."""
    return ApiClient(target, refresh=_Renewal(target) if can_be_renewed(opened.row) else None)


class _Renewal:
    """What a client calls when its API refuses the token: it knows which one that was."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def __call__(self) -> Target:
        refused = self._target.credentials.get("access_token", "")
        # Deleted, or made in a transaction that nobody else sees yet: then the refusal stands as it is.
        with suppress(NotFound):
            self._target = target_of(open_connection(replace_token(self._target.connection_id, refused)))
        return self._target
