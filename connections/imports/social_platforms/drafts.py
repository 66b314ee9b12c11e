"""Accounts that are going to become connections."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from connections.imports.social_platforms.accounts import Account
from connections.imports.social_platforms.old_rows import OldRow
from connections.imports.social_platforms.owners import Owner
from connections.imports.social_platforms.twins import Place, place_of
from connections.models import ExternalApiConnection, ExternalApiCredential
from external_apis.models import ExternalApi

__all__ = ["Draft", "build"]


@dataclass(frozen=True)
class Draft:
    """An old account as it was read. ``api`` is None where a dry run does not make it."""

    row: OldRow
    account: Account
    api: ExternalApi | None
    owner: Owner
    is_past: bool
    token_digest: str = ""

    @property
    def place(self) -> Place:
        return place_of(self.account, self.api, self.owner)


def build(draft: Draft, now: datetime) -> ExternalApiConnection:
    """Return the connection with its credential, neither of them stored; ``now`` counts where no time is told."""
    account, owner = draft.account, draft.owner
    connection = ExternalApiConnection(
        external_api=draft.api,
        tenant=owner.tenant,
        partner=owner.partner,
        user=owner.user,
        connection_name=account.name,
        slug=account.slug,
        provider_data=account.provider_data,
        status=account.status,
        error_message=account.error_message,
        authenticated_at=account.authenticated_at or account.created_at or now,
        last_sync_at=account.last_sync_at,
    )
    secrets = {name: value for name, value in account.credentials.secrets.items() if value is not None}
    credential = ExternalApiCredential(connection=connection, tenant=owner.tenant, secrets=secrets)
    for name, value in account.credentials.facts.items():
        setattr(credential, name, value)
    return connection
