"""What the inputs of recipes have in common, and how a recipe reads an answer."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

import requests
from pydantic import BaseModel, ConfigDict, Field

from connections.client import ApiClient
from external_apis.errors import StepFailed, UpstreamClientError

__all__ = ["RecipeInput", "Reference", "Text", "answered", "delete_once", "stored_fact"]

Reference = Annotated[str, Field(min_length=1, max_length=250)]
"""A connection's id, or ``provider-slug/connection-slug``."""
Text = Annotated[str, Field(min_length=1, max_length=100_000)]


class RecipeInput(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)


def delete_once(client: ApiClient, path: str, *, says_gone: bytes = b"") -> None:
    """Delete what may be gone already: a compensation may be repeated. A 400 with ``says_gone`` tells of that too.

    Raises the client's errors for any other answer.
    """
    try:
        client.delete(path)
    except UpstreamClientError as error:
        is_said = error.upstream_status == HTTPStatus.BAD_REQUEST and says_gone and says_gone in error.body
        if error.upstream_status not in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE) and not is_said:
            raise


def stored_fact(client: ApiClient, name: str) -> str:
    """Return what a connection's ``provider_data`` has under a name. Raises `StepFailed` where it is missing."""
    value = client.target.provider_data.get(name)
    if not isinstance(value, str) or not value:
        raise StepFailed(f"The connection's provider_data has no {name}.")
    return value


def answered(response: requests.Response, *names: str) -> Any:
    """Return the first of the named fields that a JSON answer has.

    Raises `StepFailed`, which may have happened, where it has none: the provider took the request and did not say what
    it made of it.
    """
    try:
        data = response.json()
    except ValueError:
        data = None
    found = [data[name] for name in names if data.get(name)] if isinstance(data, dict) else []
    if not found:
        raise StepFailed(f"The provider's answer has no {names[0]}.", may_have_happened=True)
    return found[0]
