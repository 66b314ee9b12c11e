"""What OpenAPI says of the addresses that providers send webhooks to, which are no views of the REST framework's."""

from __future__ import annotations

from typing import Any

__all__ = ["describe_webhooks"]

_SLUG, _API_ID = (
    {"in": "path", "name": name, "required": True, "schema": {"type": "string"}, "description": description}
    for name, description in (("slug", "The provider's slug."), ("api_id", "The provider's id, `api_…`."))
)
_REFUSED = {
    "description": (
        "Refused. The sender never learns why; the operator does, at `/api/external/webhook-refusals`. Without a body "
        "where the request itself was malformed."
    ),
    "content": {
        "application/json": {
            "schema": {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
        }
    },
}
_TEXT = {"text/plain": {"schema": {"type": "string"}}}
_BUSY = {"description": "Nothing is stored, or too many bodies are being waited for: send it again."}
_CHALLENGE = ("hub.mode", "hub.verify_token", "hub.challenge")


def _path(name: str, *parameters: dict[str, Any]) -> dict[str, Any]:
    challenge = [{"in": "query", "name": parameter, "schema": {"type": "string"}} for parameter in _CHALLENGE]
    return {
        "post": {
            "operationId": f"receive_webhook{name}",
            "summary": "Take in a webhook of a provider",
            "description": (
                "For providers. The signature over the raw body is all that counts; a repetition is accepted and "
                "changes nothing."
            ),
            "tags": ["webhooks"],
            "security": [{}],
            "parameters": list(parameters),
            "requestBody": {"description": "As the provider sends it.", "content": {"*/*": {"schema": {}}}},
            "responses": {
                "200": {"description": "Stored; or the answer to Slack's challenge.", "content": _TEXT},
                "204": {"description": "Stored, for Twilio."},
                "400": _REFUSED,
                "411": {"description": "A body in chunks."},
                "413": {"description": "A body longer than `MAX_BODY_BYTES`."},
                "503": _BUSY,
            },
        },
        "get": {
            "operationId": f"verify_webhook{name}",
            "summary": "Answer Meta's question whether the address is ours",
            "description": "For Meta, which sends the provider's `verify_token` when the address is registered.",
            "tags": ["webhooks"],
            "security": [{}],
            "parameters": [*parameters, *challenge],
            "responses": {
                "200": {"description": "The challenge.", "content": _TEXT},
                "400": _REFUSED,
                "503": _BUSY,
            },
        },
    }


_PATHS: dict[str, dict[str, Any]] = {
    "/api/webhooks/{slug}": _path("", _SLUG),
    "/api/webhooks/{slug}/{api_id}": _path("_of_one_provider", _SLUG, _API_ID),
}


def describe_webhooks(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Add the addresses to a document that drf-spectacular has made; one of its post-processing hooks."""
    result["paths"] = dict(sorted((result["paths"] | _PATHS).items()))
    return result
