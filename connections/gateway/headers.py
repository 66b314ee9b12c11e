"""Which header fields travel through the gateway, in both directions."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from urllib3 import HTTPHeaderDict

__all__ = ["passed_answer", "passed_request"]

# RFC 9110 7.6.1, with what frames a message and the non-standard ones that proxies speak to each other.
_HOP_BY_HOP = frozenset(
    ("connection", "content-length", "expect", "http2-settings", "keep-alive", "proxy-authenticate",
     "proxy-authorization", "proxy-authentication-info", "proxy-connection", "te", "trailer", "transfer-encoding",
     "upgrade")
)  # fmt: skip
# Our own credentials, who the caller is, which way the request came and what it is a part of; and fields that make a
# server take another path than the one that was checked.
_CALLERS_OWN = frozenset(
    ("authorization", "baggage", "cf-connecting-ip", "client-ip", "cookie", "fastly-client-ip", "forwarded", "host",
     "traceparent", "tracestate", "true-client-ip", "via", "x-api-key", "x-client-ip", "x-cluster-client-ip",
     "x-csrftoken", "x-host", "x-original-forwarded-for", "x-original-host", "x-original-url", "x-real-ip",
     "x-request-id", "x-rewrite-url")
)  # fmt: skip
_METHOD_OVERRIDES = frozenset(("x-http-method", "x-http-method-override", "x-method-override"))
# What is said to our own origin, to the server in front of us or to a browser about us is not the provider's to say.
_PROVIDERS_OWN = frozenset(
    ("alt-svc", "clear-site-data", "content-security-policy-report-only", "nel", "origin-agent-cluster",
     "public-key-pins", "refresh", "report-to", "reporting-endpoints", "service-worker-allowed", "set-cookie",
     "set-cookie2", "sourcemap", "strict-transport-security", "x-lighttpd-send-file", "x-litespeed-location",
     "x-reproxy-url", "x-sendfile")
)  # fmt: skip


def passed_request(environ: Mapping[str, Any], *, may_override_method: bool = True) -> dict[str, str]:
    """Return the caller's header fields that the provider gets."""
    named = _listed(environ.get("HTTP_CONNECTION", ""))
    found = {}
    for variable, value in environ.items():
        name = _request_field(variable) if variable.startswith(("HTTP_", "CONTENT_TYPE")) else ""
        if not name or not value or (named and name.lower() in named):
            continue
        if not may_override_method and name.lower() in _METHOD_OVERRIDES:
            continue
        found[name] = value
    return found


def passed_answer(headers: HTTPHeaderDict, *, has_body: bool = True) -> dict[str, str]:
    """Return the provider's header fields that the caller gets, and those that keep a browser from trusting them.

    Whoever opens an answer in a browser opens it under our origin: it is sandboxed there, so that a provider's page
    cannot use anybody's session with us. Caches keep answers apart by credential.
    """
    named = _listed(headers.get("Connection", ""))
    found = {}
    for name, value in headers.itermerged():
        lower = name.lower()
        if lower == "content-length":
            if has_body and "transfer-encoding" not in headers:
                found["Content-Length"] = value.partition(",")[0].strip()  # equal ones, or it had been refused
        elif not _is_dropped(lower) and lower not in named:
            found[name] = _as_text(value)
    policy = headers.get("Content-Security-Policy")
    found["Content-Security-Policy"] = f"{policy}, sandbox" if policy else "sandbox"
    varies = headers.get("Vary")
    found["Vary"] = f"{varies}, Authorization, X-Api-Key" if varies else "Authorization, X-Api-Key"
    if request_id := headers.get("X-Request-Id"):
        found["X-Upstream-Request-Id"] = request_id
    return found


def _as_text(value: str) -> str:
    """Return a value as the server, which writes UTF-8, sends the bytes that came; folded lines become one."""
    if "\n" in value or "\r" in value:
        value = " ".join(value.split())
    if value.isascii():
        return value
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


@lru_cache(maxsize=1024)
def _request_field(variable: str) -> str:
    """Return a WSGI variable's header name, empty for one that does not travel."""
    if variable in ("HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"):
        return ""  # of a field with an underscore, which would take the real one's place
    name = variable.removeprefix("HTTP_").replace("_", "-")
    lower = name.lower()
    if lower in _HOP_BY_HOP or lower in _CALLERS_OWN or lower.startswith(("x-forwarded", "proxy-")):
        return ""
    return name.title()


@lru_cache(maxsize=1024)
def _is_dropped(lower: str) -> bool:
    if lower in _HOP_BY_HOP or lower in _PROVIDERS_OWN or lower in ("content-security-policy", "vary", "x-request-id"):
        return True
    return lower.startswith(("access-control-", "x-accel-"))


def _listed(value: str) -> frozenset[str]:
    return frozenset(part.strip().lower() for part in value.split(",")) if value else frozenset()
