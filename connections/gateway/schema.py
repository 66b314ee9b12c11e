"""What OpenAPI says of the gateway, which is no view of the REST framework's."""

from __future__ import annotations

from typing import Any

from external_apis.scopes import SCOPES

__all__ = ["PATH", "describe_gateway"]

PATH = "/api/external/proxy/{connection_id}/{path}"
_SCOPE = "proxy"
_METHODS = ("get", "head", "options", "post", "put", "patch", "delete")
_CHANGING = ("post", "put", "patch", "delete")
_WITH_BODY = ("post", "put", "patch")
_SECURITY_SCHEMES = {
    "gatewayPassword": {
        "type": "http",
        "scheme": "basic",
        "description": "At the gateway: what `apiKey` takes, as the password; the user name does not matter.",
    },
    "gatewayHeader": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Api-Key",
        "description": "At the gateway: what `apiKey` takes, where there is no `Authorization`.",
    },
}
_FAILURES = {
    400: "`VALIDATION_ERROR`: a path out of the base URL, a malformed body or `Idempotency-Key`, another `dry_run`.",
    401: "`MISSING_AUTH_HEADER`, `INVALID_AUTH_SCHEME`, `INVALID_API_KEY`, `TOKEN_EXPIRED` or `INVALID_TOKEN`.",
    403: "`FORBIDDEN`: the key lacks the scope, or the provider's `proxy` block does not allow the method or the path.",
    404: "`NOT_FOUND`: there is no connection with this id, or none that the key may see.",
    409: (
        "`CONNECTION_EXPIRED`, `CONNECTION_REVOKED`, `CONNECTION_INACTIVE`, `MISSING_CREDENTIAL` or "
        "`CONNECTION_UNUSABLE`; of a call with this key `IDEMPOTENCY_CALL_IN_PROGRESS`, `IDEMPOTENCY_CALL_IN_DOUBT` or "
        "`IDEMPOTENCY_ANSWER_NOT_KEPT`."
    ),
    413: "`PAYLOAD_TOO_LARGE`: a body that has to be read whole, as one with an `Idempotency-Key`.",
    422: "`IDEMPOTENCY_KEY_REUSED`: the key came with another request before.",
    429: "`RATE_LIMIT_EXCEEDED`: `details.limitOf` tells whether of the `key`, the `address` or the `connection`.",
    502: "`CONNECT_FAILED`, `BAD_ANSWER` or `EGRESS_REFUSED`: there is no usable answer of the provider.",
    503: "`TOO_MANY_CALLS` of this process are under way, or `SERVICE_UNAVAILABLE`, or `API_KEY_NOT_CONFIGURED`.",
    504: "`CALL_TIMEOUT`: no answer of the provider in time; `details.mayHaveHappened` tells whether it was sent.",
}
_OURS = "The gateway's own, without `X-Upstream-Latency-Ms`; one of the provider's is as the provider made it."
_LIMIT_HEADERS = {
    "X-Gateway-RateLimit-Limit": "Requests an hour of this key, or of this address where no key was accepted.",
    "X-Gateway-RateLimit-Remaining": "How many of them could be made at once now.",
    "X-Gateway-RateLimit-Reset": "When all of them could be made again, in seconds since 1970.",
}
_ANSWER_HEADERS = {
    "X-Retries": "How often the call was sent again.",
    "X-Upstream-Latency-Ms": "To the head of the last attempt's answer. What has it not is an answer of ours.",
}
_DESCRIPTION = (
    "Sends the request to the provider with the connection's credential and returns the answer as it was, whatever its "
    f"status. Needs the scope `{_SCOPE}`: {SCOPES[_SCOPE]}"
)


def describe_gateway(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Add the gateway to a document that drf-spectacular has made; one of its post-processing hooks."""
    result["paths"][PATH] = {method: _operation(method) for method in _METHODS}
    result["paths"] = dict(sorted(result["paths"].items()))
    result["components"]["securitySchemes"] |= _SECURITY_SCHEMES
    return result


def _operation(method: str) -> dict[str, Any]:
    described = {
        "operationId": f"proxy_{method}",
        "summary": f"Make a {method.upper()} request through a connection",
        "description": _DESCRIPTION,
        "tags": ["proxy"],
        "parameters": _parameters(method),
        "security": [{name: [_SCOPE]} for name in ("apiKey", *_SECURITY_SCHEMES)],
        "responses": _responses(method),
    }
    if method in _WITH_BODY:
        described["requestBody"] = {"description": "As the provider wants it.", "content": {"*/*": {"schema": {}}}}
    return described


def _parameters(method: str) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        _parameter("path", "connection_id", "The id of a connection, `conn_…`; a reference will not do."),
        _parameter("path", "path", "The path below the provider's base URL, slashes and all."),
        _parameter("query", "dry_run", "Show the request as a curl command, without secrets, and send nothing."),
    ]
    parameters[-1]["schema"]["enum"] = ["curl"]
    if method in _CHANGING:
        parameters.append(_parameter("header", "Idempotency-Key", "Make the call once within 24 hours."))
        parameters[-1]["schema"] |= {"maxLength": 255}
    return parameters


def _parameter(place: str, name: str, description: str) -> dict[str, Any]:
    required = {"required": True} if place == "path" else {}
    return {"in": place, "name": name, **required, "schema": {"type": "string"}, "description": description}


def _responses(method: str) -> dict[str, Any]:
    told = {status: text for status, text in _FAILURES.items() if method in _CHANGING or status != 422}
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/EnvelopeFailure"}}}
    if method == "head":
        content = {}
    limit = {name: _header(text, "integer") for name, text in _LIMIT_HEADERS.items()}
    added = {name: _header(text, "integer") for name, text in _ANSWER_HEADERS.items()}
    if method in _CHANGING:
        added["Idempotent-Replayed"] = _header("`true` where the answer is the one that the key had before.", "string")
    answer = {"description": "The provider's.", "headers": {**limit, **added}, "content": {"*/*": {"schema": {}}}}
    failures = {
        str(status): {"description": f"{_OURS} {text}", "headers": limit, "content": content}
        for status, text in told.items()
    }
    return {"default": answer, **failures}


def _header(description: str, kind: str) -> dict[str, Any]:
    return {"schema": {"type": kind}, "description": description}
