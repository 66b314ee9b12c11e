"""What a client of the gateway needs to know of a connection to call through it as `ApiClient` calls."""

from __future__ import annotations

from typing import Any

from connections import lookup
from connections.client.composer import Composer
from connections.opening import check_usable
from external_apis.api_config import url_values
from external_apis.providers import open_config
from external_apis.tenancy import Scope

__all__ = ["describe_client"]


def describe_client(reference: str, scope: Scope, environment: str | None = None) -> dict[str, Any]:
    """Return base URL, URL variables, encoding and pagination; no credential is opened, and no secret is in it.

    URL variables stand in the addresses of calls, and the base URL shows most of them anyway. One that the connection
    lacks is None. Raises `NotFound`, `Conflict`, `ConnectionUnusable`, `VaultError`, and `InvalidInput` for a variable
    that the base URL needs.
    """
    row = lookup.find_in_scope(reference, scope, environment)
    check_usable(row)
    config = open_config(row.external_api).api_config
    values = url_values(config, row.provider_data)
    composer = Composer(config, values)
    return {
        "id": row.pk,
        "name": f"{row.external_api.slug}/{row.slug}",
        "base_url": f"{composer.origin}{composer.base_path}",
        "url_variables": {name: values.get(name) for name in config.url_variables},
        "request_encoding": config.request_encoding,
        "graphql_path": config.graphql_path,
        "pagination": config.pagination.model_dump() if config.pagination else None,
    }
