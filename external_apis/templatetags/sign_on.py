"""What the log-in page offers."""

from __future__ import annotations

from django import template
from django.conf import settings
from django.urls import NoReverseMatch, reverse
from django.utils.http import urlencode

register = template.Library()


@register.simple_tag
def sign_on_url(next_page: str = "") -> str:
    """Return where the sign-on button leads, nothing without a provider."""
    if not getattr(settings, "OIDC_ISSUER", ""):
        return ""
    try:
        url = reverse("sign_on:begin")
    except NoReverseMatch:
        return ""
    return f"{url}?{urlencode({'next': next_page})}" if next_page else url


@register.simple_tag
def takes_passwords() -> bool:
    return bool(getattr(settings, "PASSWORD_LOGIN", True))
