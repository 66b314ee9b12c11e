"""Where a provider sends people back to after they have agreed: the address to be registered there, to the letter."""

from __future__ import annotations

from django.conf import settings

from external_apis.models import ExternalApi
from external_apis.oauth_config import BY_CONSENT

__all__ = ["callback_url"]


def callback_url(api: ExternalApi) -> str:
    """Return the configured ``redirect_uri``, or the callback by the provider's id; nothing where no flow has one."""
    if api.auth_type not in BY_CONSENT:
        return ""
    configured = api.api_config.get(api.auth_type, {}).get("redirect_uri")
    return configured or f"{settings.PUBLIC_BASE_URL}/admin/external-apis/{api.pk}/oauth/callback"
