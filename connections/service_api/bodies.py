"""What is sent to ``/exsvc``: bodies and queries in seed 002's words."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from external_apis.admin_api.operations import Query
from external_apis.models import Category
from external_apis.provider_input import Description, Name, RowId
from external_apis.query_input import DIGITS_ALONE

__all__ = ["CredentialsInput", "ServiceChanges", "ServiceInput", "ServiceQuery"]

_Status = Literal["active", "inactive"]
_Url = Annotated[str, Field(min_length=1, max_length=2000)]
_Version = Annotated[str, Field(max_length=100)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)


class ServiceInput(_Body):
    """A service as a whole: what is left out has its default."""

    name: Name
    """Unique in the tenant, whatever its case."""
    description: Description = ""
    type: Category = Category.OTHER
    status: _Status = "active"
    base_url: _Url
    """An https URL."""
    api_version: _Version | None = None
    tenant_id: RowId | None = None
    """The token's own tenant, which it is without it. A key that is bound to none may name any."""
    metadata: dict[str, Any] = {}


class ServiceChanges(_Body):
    """What of a service is to change."""

    name: Name = ""
    description: Description = ""
    type: Category = Category.OTHER
    status: _Status = "active"
    base_url: _Url = ""
    api_version: _Version | None = None
    tenant_id: RowId | None = None
    """The service's own, which cannot be changed."""
    metadata: dict[str, Any] = {}
    """Replaced as a whole."""


class CredentialsInput(_Body):
    """All credentials of a service: they replace those that are stored."""

    service_id: RowId | None = None
    """The id in the path."""
    auth_type: Annotated[str, Field(min_length=1, max_length=50)] | None = None
    """How the service authenticates. Another one than before changes the service, which has to be the tenant's own."""
    credentials: dict[str, Any]
    """What the auth type uses: `access_token` of `bearer`, `api_key` of `api_key`, `username` and `password`, …"""
    expires_at: str | None = None
    """When they expire, such as 2026-01-15T10:30:00Z."""


class ServiceQuery(Query):
    """The query of the list."""

    limit: Annotated[int, Field(ge=1, le=1000), DIGITS_ALONE] = 50
    """How many services to return."""
    offset: Annotated[int, Field(ge=0, le=1_000_000), DIGITS_ALONE] = 0
    """How many services to leave out first."""
    name: Annotated[str, Field(max_length=200)] = ""
    """A part of the name."""
    type: Category = Category.OTHER
    status: _Status = "active"

    def filters(self) -> dict[str, Any]:
        return self.model_dump(exclude={"limit", "offset"}, exclude_unset=True)
