"""Providers as REST shows them: facts about secrets, never a secret."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, Q
from pydantic import BaseModel, ConfigDict, RootModel

from external_apis.errors import ApiManagerError, InvalidConfiguration, VaultError
from external_apis.json_output import Timestamp
from external_apis.models import ExternalApi
from external_apis.providers import config_with_facts, open_config
from external_apis.tenancy import Scope


class RowError(BaseModel):
    """Why a row cannot be used: its sealed values do not open, or its configuration no longer fits."""

    code: str
    message: str


class ProviderItem(BaseModel):
    """A provider in a list."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    name: str
    slug: str
    category: str
    provider: str
    status: str
    environment: str
    is_sandbox: bool
    auth_type: str
    base_url: str
    sales_channel_id: str | None
    partner_id: str | None
    connections_count: int
    created_at: Timestamp
    updated_at: Timestamp
    created_by: str | None
    updated_by: str | None
    error: RowError | None = None
    """Present only where the sealed values cannot be opened."""


class ProviderItems(RootModel[list[ProviderItem]]):
    """A page of providers."""


class ProviderDetail(ProviderItem):
    """A provider with its configuration."""

    description: str
    metadata: dict[str, Any]
    api_config: dict[str, Any]
    """As stored; where a secret `name` is stored, `name_encrypted` holds its keyVersion, fingerprint and hint."""


def provider_item(api: ExternalApi, connections_count: int) -> dict[str, Any]:
    """Describe a provider for a list. Decrypts nothing: only a damaged or foreign seal is noticed."""
    fields = _fields(api, connections_count)
    try:
        api.secret_facts()
    except VaultError as error:
        fields["error"] = row_error(error)
    return ProviderItem.model_construct(**fields).model_dump(mode="json", exclude_unset=True)


def provider_detail(api: ExternalApi, connections_count: int, scope: Scope) -> dict[str, Any]:
    """Describe one provider and find out whether its secrets open.

    Hints and fingerprints are for those to whom the row belongs: of a global provider a tenant sees the definition.
    """
    fields = _fields(api, connections_count) | {
        "description": api.description,
        "metadata": api.metadata,
        "api_config": api.api_config,
    }
    try:
        if scope.owns(api):
            fields["api_config"] = config_with_facts(api)
        open_config(api)
    except (VaultError, InvalidConfiguration) as error:
        fields["error"] = row_error(error)
    return ProviderDetail.model_construct(**fields).model_dump(mode="json", exclude_unset=True)


def count_connections(api_ids: list[str], scope: Scope) -> dict[str, int]:
    """Count the live connections that the scope sees, by provider, in one query.

    The relation comes from the upper floor's model; it is named here and not imported.
    """
    mine = Q() if scope.tenant_id is None else Q(connections__tenant_id=scope.tenant_id)
    rows = ExternalApi.objects.filter(mine, pk__in=api_ids, connections__deleted_at=None).order_by()
    return dict(rows.values_list("pk").annotate(Count("connections")))


def row_error(error: ApiManagerError) -> RowError:
    return RowError(code=error.code, message=error.message)


def _fields(api: ExternalApi, connections_count: int) -> dict[str, Any]:
    return {
        "id": api.pk,
        "name": api.name,
        "slug": api.slug,
        "category": api.category,
        "provider": api.provider,
        "status": api.status,
        "environment": api.environment,
        "is_sandbox": api.is_sandbox,
        "auth_type": api.auth_type,
        "base_url": api.api_config.get("base_url", ""),
        "sales_channel_id": api.tenant_id,
        "partner_id": api.partner_id,
        "connections_count": connections_count,
        "created_at": api.created_at,
        "updated_at": api.updated_at,
        "created_by": api.created_by,
        "updated_by": api.updated_by,
    }
