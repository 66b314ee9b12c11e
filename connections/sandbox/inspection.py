"""What tests ask the sandbox about itself."""

from __future__ import annotations

from connections.sandbox.answers import Reply, answer_json
from connections.sandbox.request import Request
from connections.sandbox.routing import GET, POST, Route
from connections.sandbox.state import State


def show_health(_request: Request, _state: State) -> Reply:
    return answer_json({"status": "ok"})


def show_requests(request: Request, state: State) -> Reply:
    key = request.parameters.get("key")
    with state.lock:
        return answer_json(state.ledger.describe_all() if key is None else state.ledger.describe(key))


def reset(_request: Request, state: State) -> Reply:
    with state.lock:
        state.reset()
    return answer_json({"status": "ok"})


ROUTES = (
    Route("/_sandbox/health", show_health, GET, "answers as soon as anything does"),
    Route(
        "/_sandbox/requests", show_requests, GET, "requests that came with key= or X-Sandbox-Key; all counts without"
    ),
    Route("/_sandbox/reset", reset, POST, "forget everything"),
)
