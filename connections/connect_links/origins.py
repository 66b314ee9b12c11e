"""Which other sites are told of a link: those that ``CONNECT_ALLOWED_ORIGINS`` names, letter for letter."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from django.conf import settings

from external_apis.errors import EgressRefused
from external_apis.transport.origin import Origin

__all__ = ["allowed_origin", "is_allowed", "preflight_headers", "sharing_headers", "with_parameters"]


def allowed_origin(url: str) -> str | None:
    """Return the origin of a URL that users may be sent to, None for every other URL.

    What a browser would read in another way than we do is no URL here: it holds nothing but printable ASCII, no
    backslash and no user name.
    """
    if not all("\x21" <= character <= "\x7e" for character in url) or set(url) & set('\\"<>^`{|}'):
        return None
    try:
        scheme, netloc = urlsplit(url)[:2]
        origin = str(Origin.of(url))
    except (EgressRefused, ValueError):
        return None
    # Two parsers have to agree on where the host ends.
    is_plain = url.lower().startswith(f"{scheme}://{netloc}".lower()) and "@" not in netloc and "%" not in netloc
    return origin if is_plain and is_allowed(origin) else None


def is_allowed(origin: str) -> bool:
    """Tell whether exactly this origin, such as ``https://app.example.com``, is in the setting."""
    return origin in settings.CONNECT_ALLOWED_ORIGINS


def sharing_headers(origin: str) -> Mapping[str, str]:
    """Return what lets a page of this origin read an answer (CORS), never with a session; nothing for other origins."""
    if not is_allowed(origin):
        return {}
    return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": "Retry-After"}


def preflight_headers(origin: str) -> Mapping[str, str]:
    """Return what lets a page of this origin send a GET with a key."""
    allowed = {"Access-Control-Allow-Methods": "GET", "Access-Control-Allow-Headers": "Authorization"}
    shared = sharing_headers(origin)
    return {**shared, **allowed, "Access-Control-Max-Age": "600"} if shared else {}


def with_parameters(url: str, **parameters: str) -> str:
    """Return the URL with these query parameters added; its own of the same names, and its fragment, go."""
    parts = urlsplit(url)
    kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in parameters]
    return urlunsplit(parts._replace(query=urlencode([*kept, *parameters.items()]), fragment=""))
