"""Photos of Facebook pages (developers.facebook.com/docs/graph-api): publish one, and delete its post."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from connections.sandbox.answers import Answer, Reply, answer_json
from connections.sandbox.request import Request, parse_pairs
from connections.sandbox.routing import GET, POST, Route
from connections.sandbox.state import State


def publish_photo(request: Request, state: State) -> Reply:
    page = request.arguments["page"]
    given = _read(request)
    if not page.isdigit():
        return _refuse(100, f"Unsupported post request. Object with ID '{page}' does not exist")
    if not str(given.get("url", "")).startswith(("http://", "https://")):
        return _refuse(100, "(#100) url should represent a valid URL")
    with state.lock:
        number = int(state.make_id()[:12], 16)
        made = {"id": str(number), "post_id": f"{page}_{number}"}
        state.objects[made["post_id"]] = {"object": "post", "message": given.get("caption", "")}
    return answer_json(made)


def handle_post(request: Request, state: State) -> Reply:
    name = request.arguments["post"]
    with state.lock:
        found = state.objects.get(name)
        if found is None or found["object"] != "post":
            return _refuse(100, f"Unsupported request. Object with ID '{name}' does not exist")
        if request.method != "DELETE":
            return answer_json({"id": name, "message": found["message"]})
        del state.objects[name]
    return answer_json({"success": True})


def show_page(_request: Request, _state: State) -> Reply:
    return answer_json({"id": "546349135390552", "name": "Sandbox page"})


def _read(request: Request) -> Mapping[str, Any]:
    if request.content_type == "application/json":
        given = json.loads(request.body or b"{}")
        return given if isinstance(given, dict) else {}
    return dict(parse_pairs(request.body.decode("ascii", "replace")))


def _refuse(code: int, message: str) -> Answer:
    error = {"message": message, "type": "OAuthException", "code": code, "fbtrace_id": "sandbox"}
    return answer_json({"error": error}, 400)


ROUTES = (
    Route("/facebook/v18.0/me", show_page, GET, "the Facebook page whose token it is"),
    Route("/facebook/v18.0/{page}/photos", publish_photo, POST, "publishes a photo on a Facebook page"),
    Route("/facebook/v18.0/{post}", handle_post, frozenset({"GET", "DELETE"}), "a post of one"),
)
