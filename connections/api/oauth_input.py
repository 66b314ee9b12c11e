"""What comes in the queries of a flow's two ends, read strictly."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, QueryDict
from pydantic import BaseModel, ConfigDict

from connections.oauth.flows import MAX_PARAMETER
from external_apis.errors import FlowRefused
from external_apis.ids import can_name
from external_apis.models import ExternalApi
from external_apis.provider_input import Name, RowId, read_body

__all__ = ["AuthorizeQuery", "callback_parameters", "read_authorize"]

_CALLBACK = (
    "code", "denied", "error", "error_description", "iss", "oauth_problem", "oauth_token", "oauth_verifier", "state",
)  # fmt: skip


class AuthorizeQuery(BaseModel):
    """The provider's URL variables (``?shop=acme``) stand beside these."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)

    connection: RowId | None = None
    """The connection, by id or slug, that is to be authorised again instead of a new one."""
    connection_name: Name | None = None
    """Unless given, the provider's name."""
    sales_channel_id: RowId | None = None
    partner_id: RowId | None = None
    user_id: RowId | None = None


def read_authorize(given: QueryDict, api: ExternalApi, user: Any) -> tuple[AuthorizeQuery, dict[str, Any]]:
    """Return the query, and the body of the connection that is to be made. Raises `InvalidInput`.

    The account of a signed-in user becomes the new connection's owner.
    """
    variables = set(api.api_config.get("url_variables", {})) - set(AuthorizeQuery.model_fields)
    values = given.dict()
    parts = {name: values.pop(name) for name in variables & set(values)}
    provider_data = {name: value for name, value in parts.items() if value}  # a form sends what was left empty, too
    query = read_body(AuthorizeQuery, values)
    account = getattr(user, "external_apis_account", None)
    body = query.model_dump(exclude={"connection"}, exclude_none=True)
    return query, {**body, "provider_data": provider_data, "owner_id": account.pk if account else None}


def callback_parameters(request: HttpRequest) -> dict[str, str]:
    """Return what a provider added to the callback's address. Raises `FlowRefused` for what no provider sends."""
    found = {}
    for name in _CALLBACK:
        values = request.GET.getlist(name)
        if len(values) > 1 or any(len(value) > MAX_PARAMETER or not can_name(value) for value in values):
            message = f"The answer has {name} twice, or too long, or with characters that no text has."
            raise FlowRefused(message, reason="malformed")
        if values:
            found[name] = values[0]
    return found
