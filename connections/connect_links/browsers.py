"""The browser that a trip to a provider begins in: a cookie of its own, which alone may bring the answer back."""

from __future__ import annotations

import hashlib
import secrets

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare, salted_hmac

from external_apis.errors import InvalidInput

__all__ = [
    "bound_to",
    "give_cookie",
    "has_just_failed",
    "make_value",
    "note_failure",
    "proof_of",
    "require_proof",
    "tell_no_more",
    "value_of",
]

COOKIE_NAME = "external_apis_connect"
_FAILED_NAME, _FAILED_SECONDS = "external_apis_connect_failed", 60
_SECONDS = 86_400
_LONGEST = 200


def value_of(request: HttpRequest) -> str:
    """Return what this browser's cookie holds, empty without one."""
    value = request.COOKIES.get(COOKIE_NAME, "")
    return value if len(value) <= _LONGEST else ""


def make_value() -> str:
    return secrets.token_urlsafe(24)


def give_cookie(response: HttpResponse, value: str) -> None:
    """Set it so that it comes along when the provider sends the browser back, and with nothing that others post."""
    is_https = settings.PUBLIC_BASE_URL.startswith("https://")
    response.set_cookie(COOKIE_NAME, value, _SECONDS, secure=is_https, httponly=True, samesite="Lax")


def proof_of(value: str, token: str) -> str:
    """Return what a form of this browser for this link carries: another site cannot know it."""
    return salted_hmac("connections.connect_link.browser", f"{value} {token}", algorithm="sha256").hexdigest()


def require_proof(value: str, token: str, proof: str) -> None:
    """Raise `InvalidInput` for a form that this browser was not shown, or without its cookie."""
    if not value or not constant_time_compare(proof_of(value, token), proof):
        raise InvalidInput("This page was open too long, or the browser keeps no cookies. Please try again.")


def bound_to(value: str, link_id: str) -> str:
    """Return the name of link and browser together, as it stands in the flow's row."""
    return f"link:{link_id}:{hashlib.sha256(value.encode()).hexdigest()[:32]}"


def note_failure(response: HttpResponse, link_id: str) -> None:
    """Let this browser's next look at the link's page, and no later one, be that of an attempt that failed."""
    is_https = settings.PUBLIC_BASE_URL.startswith("https://")
    response.set_cookie(_FAILED_NAME, link_id, _FAILED_SECONDS, secure=is_https, httponly=True, samesite="Lax")


def has_just_failed(request: HttpRequest, link_id: str) -> bool:
    return request.COOKIES.get(_FAILED_NAME) == link_id


def tell_no_more(response: HttpResponse) -> None:
    response.delete_cookie(_FAILED_NAME, samesite="Lax")
