"""The bodies that make and change a provider (seed 000), without their ``api_config``'s inside."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError

from external_apis import json_input
from external_apis.api_config import validation_errors
from external_apis.errors import InvalidInput
from external_apis.models.providers import Category, Environment, ProviderStatus
from external_apis.tenancy import Scope

_Body = TypeVar("_Body", bound=BaseModel)

Description = Annotated[str, Field(max_length=10_000)]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^\S(.*\S)?$")]
Slug = Annotated[str, Field(max_length=100, pattern=r"^[a-z0-9][a-z0-9_-]*$")]
RowId = Annotated[str, Field(min_length=1, max_length=48, pattern=r"^[A-Za-z0-9_-]+$")]


class ProviderInput(BaseModel):
    """Body of ``POST /admin/external-apis``."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    id: Annotated[str, Field(max_length=48, pattern=r"^ext_api_[a-z0-9_]+$")] | None = None
    """Made here unless an operator of the whole installation gives one (seed 000's examples carry theirs)."""
    name: Name
    slug: Slug
    category: Category
    provider: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    """The slug unless given."""
    description: Description = ""
    metadata: dict[str, Any] = {}
    """Whatever else is to be noted about it; nothing here reads it."""
    api_config: dict[str, Any]
    status: ProviderStatus = ProviderStatus.ACTIVE
    is_sandbox: StrictBool = False
    environment: Environment = Environment.PRODUCTION
    sales_channel_id: RowId | None = None
    """The tenant that the provider belongs to."""
    partner_id: RowId | None = None


class ProviderChanges(BaseModel):
    """Body of ``PATCH /admin/external-apis/{id}``. ``api_config`` is a JSON merge patch (RFC 7396)."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    name: Name = ""
    slug: Slug = ""
    category: Category = Category.OTHER
    provider: Annotated[str, Field(min_length=1, max_length=100)] = ""
    description: Description = ""
    metadata: dict[str, Any] = {}
    """Replaced as a whole."""
    api_config: dict[str, Any] = {}
    status: ProviderStatus = ProviderStatus.ACTIVE
    is_sandbox: StrictBool = False
    environment: Environment = Environment.PRODUCTION


def read_body(model: type[_Body], data: Any) -> _Body:
    """Validate a body. Raises `InvalidInput`; its message names the first fields, its details all of them."""
    json_input.check(data)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        errors = validation_errors(error, "")
        summary = "; ".join(f"{item['path']}: {item['message']}" for item in errors[:5])
        raise InvalidInput(f"Invalid input: {summary}", details={"errors": errors}) from None


def refuse_given_id(given: str | None, scope: Scope) -> None:
    """Raise `InvalidInput` for an id from somebody of a tenant: that one is taken would tell of other tenants' rows."""
    if given is not None and scope.tenant_id is not None:
        raise InvalidInput.of("id", "may be given only by operators of the whole installation")
