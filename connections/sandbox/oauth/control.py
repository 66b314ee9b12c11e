"""``/_sandbox/oauth``: tests register clients, change how they are treated, and read what they did."""

from __future__ import annotations

import json
from typing import Any

from connections.sandbox.answers import Refusal, Reply, answer_json
from connections.sandbox.oauth.clients import Client
from connections.sandbox.request import Request
from connections.sandbox.routing import GET, POST, Route
from connections.sandbox.state import State

ID_CHARACTERS = 200


def configure(request: Request, state: State) -> Reply:
    """Register the client of ``client_id``, or change the settings that are named."""
    wishes = _read(request)
    client_id = wishes.pop("client_id")
    with state.lock:
        client = state.oauth.find_client(client_id)
        if client is None:
            client = Client(client_id)
            client.change(wishes)
            state.oauth.clients[client_id] = client
        else:
            client.change(wishes)
        return answer_json(client.describe())


def show(request: Request, state: State) -> Reply:
    with state.lock:
        return answer_json(_find(state, request.parameters.get("client_id", "")).describe())


def revoke(request: Request, state: State) -> Reply:
    """Revoke every grant of ``client_id``, as its users could in their settings."""
    with state.lock:
        client = _find(state, _read(request)["client_id"])
        return answer_json({"revoked": state.oauth.revoke_client(client.client_id)})


def _find(state: State, client_id: str) -> Client:
    client = state.oauth.find_client(client_id)
    if client is None:
        raise Refusal(404, "unknown_client", "No such client is registered")
    return client


def _read(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "bad_body", "The body must be JSON") from error
    client_id = body.get("client_id") if isinstance(body, dict) else None
    if not isinstance(client_id, str) or not 0 < len(client_id) <= ID_CHARACTERS:
        raise Refusal(400, "bad_body", "The body must be an object with a client_id")
    wishes: dict[str, Any] = body
    return wishes


ROUTES = (
    Route(
        "/_sandbox/oauth",
        lambda request, state: (show if request.method in GET else configure)(request, state),
        GET | POST,
        "registers and changes a client; with GET and client_id= its settings and counts",
    ),
    Route("/_sandbox/oauth/revoke", revoke, POST, "revokes all that a client holds"),
)
