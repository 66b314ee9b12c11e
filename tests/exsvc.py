"""Clients of the External Service API for tests."""

from __future__ import annotations

from typing import Any

from external_apis.models import Tenant
from tests.factories import make_key
from tests.rest import RestClient

SERVICES = "/exsvc/api/v1/services"
ALL_SCOPES = ("services:read", "services:write", "credentials:read")


def bearer(token: str) -> RestClient:
    return RestClient(headers={"Authorization": f"Bearer {token}"})


def of_tenant(tenant: Tenant | None, *scopes: str, **fields: Any) -> RestClient:
    """A client with a live key of a tenant, or of the whole installation, that may do everything of this API."""
    return bearer(make_key(tenant=tenant, scopes=list(scopes or ALL_SCOPES), **fields).token)


def service_body(**fields: Any) -> dict[str, Any]:
    """The seed's own example."""
    return {
        "name": "Payment Gateway",
        "description": "Stripe payment processing",
        "type": "payment",
        "base_url": "https://api.stripe.com",
        "api_version": "v1",
        **fields,
    }
