"""The addresses that providers send to."""

from __future__ import annotations

from django.conf import settings

from external_apis.models import ExternalApi

__all__ = ["public_url", "receiving_url"]


def public_url(slug: str, api_id: str = "") -> str:
    """Return what stands in front of a request's query as the provider knows it."""
    return f"{settings.PUBLIC_BASE_URL}/api/webhooks/{slug}{'/' if api_id else ''}{api_id}"


def receiving_url(api: ExternalApi) -> str:
    """Return the address to paste at the provider.

    The slug alone means the provider that everybody shares, in production where there are several; any other one is
    named by its id.
    """
    is_shared = api.tenant_id is None and api.partner_id is None
    is_first = api.environment == "production" and not api.is_sandbox
    return public_url(api.slug, "" if is_shared and is_first else api.pk)
