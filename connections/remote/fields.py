"""Which header fields of a call travel through the gateway: the others are refused here, and not lost on the way."""

from __future__ import annotations

from collections.abc import Mapping

from connections.wire.arguments import refuse
from connections.wire.headers import check_headers

__all__ = ["check_passed"]

# What `connections.gateway.headers` keeps back, but for X-Request-Id, by which the server tells calls apart.
_KEPT_BACK = frozenset(
    ("authorization", "baggage", "cf-connecting-ip", "client-ip", "cookie", "fastly-client-ip", "forwarded",
     "http2-settings", "proxy-authenticate", "proxy-authentication-info", "traceparent", "tracestate",
     "true-client-ip", "via", "x-api-key", "x-client-ip", "x-cluster-client-ip", "x-csrftoken", "x-host",
     "x-original-forwarded-for", "x-original-host", "x-original-url", "x-real-ip", "x-rewrite-url")
)  # fmt: skip


def check_passed(fields: Mapping[str, str]) -> None:
    """Raise `InvalidInput` that names the first field which cannot be sent, or would not reach the provider."""
    check_headers(fields)
    for name, value in fields.items():
        lower = name.lower()
        if lower in _KEPT_BACK or lower.startswith(("x-forwarded", "proxy-")):
            raise refuse(f"headers.{name}", "does not travel through the gateway")
        if not value or not value.isascii():
            raise refuse(f"headers.{name}", "is empty or not ASCII, and does not travel through the gateway")
        if "_" in name:
            raise refuse(f"headers.{name}", "holds an underscore, which web servers drop or change")
