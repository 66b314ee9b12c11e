"""Services and their credentials as ``/exsvc`` shows them (seed 002)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from connections.models import ExternalApiConnection
from connections.service_api.registry import status_of
from external_apis.config_patch import FACTS_SUFFIX
from external_apis.json_output import Timestamp
from external_apis.models import ExternalApi

__all__ = [
    "DeletedService",
    "Service",
    "ServiceClaims",
    "ServiceCredentials",
    "Services",
    "shown_credentials",
    "shown_page",
    "shown_service",
    "stored_credentials",
]


class _Answer(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class Service(_Answer):
    """An external service."""

    id: str
    name: str
    description: str
    type: str
    status: str
    """`active` or `inactive`."""
    base_url: str
    api_version: str | None
    tenant_id: str | None
    """None where it belongs to the whole installation: every tenant may read it."""
    metadata: dict[str, Any]
    created_at: Timestamp
    updated_at: Timestamp


class Services(_Answer):
    """A page of services, ordered by their slugs."""

    services: list[Service]
    total: int
    """At most 5 s old."""
    limit: int
    offset: int


class ServiceCredentials(_Answer):
    """The tenant's credentials of a service."""

    service_id: str
    auth_type: str
    credentials: dict[str, Any]
    """In clear when they are read; when they were stored just now, `name_encrypted` holds facts about `name`."""
    expires_at: Timestamp | None


class ServiceClaims(_Answer):
    """What is known of who asks."""

    tenant_id: str | None
    scopes: list[str]
    """Those that count here."""
    claims: dict[str, Any]
    """Of the token as it was sent, never its signature; for a key, what a token made from it would say."""


class DeletedService(_Answer):
    id: str
    deleted: bool = True


def shown_service(api: ExternalApi) -> dict[str, Any]:
    return _service(api).model_dump(mode="json")


def shown_page(page: Sequence[ExternalApi], total: int, limit: int, offset: int) -> dict[str, Any]:
    services = [_service(api) for api in page]
    return Services(services=services, total=total, limit=limit, offset=offset).model_dump(mode="json")


def shown_credentials(row: ExternalApiConnection, credentials: Mapping[str, Any]) -> dict[str, Any]:
    return ServiceCredentials(
        service_id=row.external_api_id,
        auth_type=row.external_api.auth_type,
        credentials=dict(credentials),
        expires_at=row.credential.expires_at,
    ).model_dump(mode="json")


def stored_credentials(row: ExternalApiConnection) -> dict[str, Any]:
    """Tell what was stored without showing it again: only what was read has its event."""
    facts = row.credential.secret_facts()
    return shown_credentials(row, {f"{name}{FACTS_SUFFIX}": dict(fact) for name, fact in facts.items()})


def _service(api: ExternalApi) -> Service:
    return Service(
        id=api.pk,
        name=api.name,
        description=api.description,
        type=api.category,
        status=status_of(api),
        base_url=api.api_config.get("base_url", ""),
        api_version=api.api_config.get("api_version"),
        tenant_id=api.tenant_id,
        metadata=api.metadata,
        created_at=api.created_at,
        updated_at=api.updated_at,
    )
