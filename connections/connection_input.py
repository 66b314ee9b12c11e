"""The bodies that make and change a connection (seed 000), without the inside of ``credentials``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from connections.models import ConnectionStatus
from external_apis.provider_input import Name, RowId, Slug
from external_apis.time_input import Day


class ConnectionInput(BaseModel):
    """Body of ``POST /admin/external-apis/{id}/connections``."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    id: Annotated[str, Field(max_length=48, pattern=r"^conn_[a-z0-9_]+$")] | None = None
    connection_name: Name
    slug: Slug | None = None
    """Unless given: ``default`` for the first connection, then made of the name."""
    credentials: dict[str, Any] = {}
    provider_data: dict[str, Any] = {}
    sales_channel_id: RowId | None = None
    partner_id: RowId | None = None
    user_id: RowId | None = None
    owner_id: RowId | None = None
    note: Annotated[str, Field(max_length=10_000)] = ""
    rotate_by: Day | None = None


class ConnectionChanges(BaseModel):
    """Body of ``PATCH``. Credentials that are not mentioned stay, null removes one; ``provider_data`` is replaced."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    connection_name: Name = ""
    slug: Slug = ""
    credentials: dict[str, Any] = {}
    provider_data: dict[str, Any] = {}
    owner_id: RowId | None = None
    note: Annotated[str, Field(max_length=10_000)] = ""
    rotate_by: Day | None = None
    status: ConnectionStatus = ConnectionStatus.ACTIVE
