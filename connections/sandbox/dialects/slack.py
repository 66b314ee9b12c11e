"""Slack's Web API (docs.slack.dev/apis/web-api): every answer is a 200, and ``ok`` tells what it means."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from connections.sandbox.answers import Reply, answer_json
from connections.sandbox.request import Request, parse_pairs
from connections.sandbox.routing import GET, POST, Route
from connections.sandbox.state import State

# One channel, by its id and by its name.
_CHANNELS = ("C0000000001", "#general", "general")


def call_method(request: Request, state: State) -> Reply:
    method = _METHODS.get(request.arguments["method"])
    if method is None:
        return answer_json({"ok": False, "error": "unknown_method"})
    try:
        return answer_json(method(_read(request), state))
    except ValueError:
        return answer_json({"ok": False, "error": "invalid_json"})


def _post_message(given: Mapping[str, Any], state: State) -> dict[str, Any]:
    if given.get("channel") not in _CHANNELS:
        return {"ok": False, "error": "channel_not_found"}
    if not given.get("text"):
        return {"ok": False, "error": "no_text"}
    with state.lock:
        number = sum("ts" in message for message in state.messages) + 1
        message = {"text": given["text"], "ts": f"1768903200.{number:06}"}
        state.messages.append(message)
    return {"ok": True, "channel": "C0000000001", "ts": message["ts"], "message": message}


def _tell_history(given: Mapping[str, Any], state: State) -> dict[str, Any]:
    """A message that was posted twice is there twice."""
    if given.get("channel") not in _CHANNELS:
        return {"ok": False, "error": "channel_not_found"}
    with state.lock:
        found = [message for message in state.messages if "ts" in message]
    return {"ok": True, "messages": found[::-1], "has_more": False}


def _test(_given: Mapping[str, Any], _state: State) -> dict[str, Any]:
    return {"ok": True, "team": "Sandbox", "user": "sandbox", "team_id": "T0000000001", "user_id": "U0000000001"}


def _read(request: Request) -> Mapping[str, Any]:
    if request.content_type == "application/json":
        given = json.loads(request.body or b"{}")
        if not isinstance(given, dict):
            raise ValueError("not an object")
        return given
    return dict(parse_pairs(request.body.decode("ascii", "replace")))


_METHODS = {"auth.test": _test, "chat.postMessage": _post_message, "conversations.history": _tell_history}

ROUTES = (
    Route("/slack/api/{method}", call_method, GET | POST, "Slack's auth.test, chat.postMessage, conversations.history"),
)
