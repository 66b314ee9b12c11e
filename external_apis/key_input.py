"""What a key is made of (seed 003)."""

from __future__ import annotations

from datetime import datetime
from ipaddress import ip_network
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from external_apis import scopes
from external_apis.errors import InvalidInput
from external_apis.models import KeyMode, KeyType
from external_apis.provider_input import Name, RowId
from external_apis.time_input import Moment

__all__ = ["MAX_SECONDS", "KeyInput", "Seconds"]

MAX_SECONDS = 366 * 86_400

Seconds = Annotated[int, Field(strict=True, ge=0, le=MAX_SECONDS)]


def _network(text: str) -> str:
    try:
        return str(ip_network(text.strip(), strict=False))
    except ValueError:
        raise ValueError("is not an IP address or a network such as 10.1.0.0/16") from None


class KeyInput(BaseModel):
    """What `keys.create` takes. Without scopes a key may do nothing but say who it is."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    title: Name
    type: KeyType
    mode: KeyMode = KeyMode.LIVE
    scopes: Annotated[list[Annotated[str, Field(max_length=60)]], Field(max_length=100)] = []
    tenant_id: RowId | None = None
    owner_id: RowId | None = None
    """The account (``user_…``) that it belongs to."""
    service: Annotated[str, Field(max_length=100)] = ""
    """The service that uses it, where no user owns it."""
    expires_at: Moment | None = None
    allowed_networks: Annotated[
        list[Annotated[str, Field(max_length=50), AfterValidator(_network)]], Field(max_length=100)
    ] = []
    rate_limit: Annotated[int, Field(strict=True, ge=1, le=10_000_000)] | None = None
    """Requests an hour."""

    def check(self, now: datetime) -> None:
        """Refuse what does not fit together. Raises `InvalidInput`."""
        self.scopes = scopes.check_scopes(self.scopes)
        if self.expires_at is not None and self.expires_at <= now:
            raise InvalidInput.of("expires_at", "lies in the past")
        if self.type == KeyType.PUBLISHABLE and self.tenant_id is None:
            raise InvalidInput.of("tenant_id", "a publishable key belongs to a tenant")
        if self.type == KeyType.PUBLISHABLE and self.scopes:
            raise InvalidInput.of("scopes", "a publishable key has none: it opens only what is public")
