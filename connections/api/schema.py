"""What OpenAPI says of the routes for monitors, which are no views of the REST framework's."""

from __future__ import annotations

from typing import Any

__all__ = ["describe_monitoring"]

_CHECKS = {
    "type": "object",
    "properties": {
        "status": {"type": "string", "enum": ["ok", "unavailable"]},
        "checks": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "required": ["status", "checks"],
}
_TEXT = {"schema": {"type": "string"}}
_PATHS: dict[str, dict[str, Any]] = {
    "/healthz": {
        "operationId": "get_readiness",
        "summary": "Tell whether requests can be served",
        "description": "For load balancers; needs no key. `checks` says `ok` of each service, or what is wrong.",
        "security": [{}],
        "responses": {
            "200": {"description": "Ready.", "content": {"application/json": {"schema": _CHECKS}}},
            "503": {"description": "Not ready.", "content": {"application/json": {"schema": _CHECKS}}},
        },
    },
    "/metrics": {
        "operationId": "get_metrics",
        "summary": "Show figures for Prometheus",
        "description": "Needs the installation's `METRICS_TOKEN`.",
        "security": [{"metricsToken": []}],
        "responses": {
            "200": {
                "description": "The text format of Prometheus.",
                "content": {"text/plain": {"schema": {"type": "string"}}},
            },
            "401": {
                "description": "Without the token, or with another.",
                "content": {"text/plain": {"schema": {"type": "string"}}},
            },
            "404": {
                "description": "No `METRICS_TOKEN` is set.",
                "content": {"text/html": {"schema": {"type": "string"}}},
            },
        },
    },
}
_SECURITY_SCHEMES = {
    "metricsToken": {"type": "http", "scheme": "bearer", "description": "`METRICS_TOKEN`, for `/metrics` alone."}
}


def describe_monitoring(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Add the routes to a document that drf-spectacular has made; one of its post-processing hooks."""
    result["paths"] |= {path: {"get": {"tags": ["monitoring"], **described}} for path, described in _PATHS.items()}
    result["components"]["securitySchemes"] |= _SECURITY_SCHEMES
    return result
