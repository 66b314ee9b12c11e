"""How a token answer looks at providers that do it their own way, and what arrives instead of one that fails."""

from __future__ import annotations

import itertools
import time
from datetime import UTC, datetime
from typing import Any

from connections.sandbox.answers import Answer, Raw, Reply, Stream, answer_json
from connections.sandbox.oauth.clients import WAIT_SECONDS, Client
from connections.sandbox.oauth.denials import NO_STORE, Denial, answer_denial

HUGE_BYTES = 64 * 1024 * 1024


def style_answer(client: Client, answer: dict[str, Any], life_seconds: int | None) -> Answer:
    """The token answer as this client gets it; ``life_seconds`` is that of the access token."""
    tokens = {**answer, **_express_life(client.expiry_style, life_seconds)}
    scopes = tokens.pop("scope")
    if client.shows_scope:
        tokens["scope"] = client.scope_separator.join(scopes)
    if client.answer_style == "slack":
        team = {"id": "T0SANDBOX", "name": "Sandbox team"}
        user = {"id": "U0SANDBOX", **tokens, "token_type": "user"}
        return answer_json({"ok": True, "app_id": "A0SANDBOX", "authed_user": user, "team": team}, headers=NO_STORE)
    if client.answer_style == "nested":
        return answer_json({"data": {"token": tokens}, "meta": {"status": "ok"}}, headers=NO_STORE)
    return answer_json(tokens, headers=NO_STORE)


def style_denial(client: Client | None, denial: Denial) -> Answer:
    """A refusal; Slack sends those with status 200."""
    if client is not None and client.answer_style == "slack":
        return answer_json({"ok": False, "error": denial.error}, headers=NO_STORE)
    return answer_denial(denial)


def _express_life(style: str, seconds: int | None) -> dict[str, Any]:
    if seconds is None or style == "none":
        return {}
    moment = time.time() + seconds
    ways: dict[str, dict[str, Any]] = {
        "seconds": {"expires_in": seconds},
        "text": {"expires_in": str(seconds)},
        "timestamp": {"expires_at": int(moment)},
        "timestamp_text": {"expires_at": str(int(moment))},
        "milliseconds": {"expires_at": int(moment * 1000)},
        "date": {"expires_at": datetime.fromtimestamp(int(moment), UTC).isoformat().replace("+00:00", "Z")},
    }
    return ways[style]


def answer_failure(client: Client, failure: str) -> Reply:
    """What the token endpoint does instead of answering."""
    headers = {"Retry-After": client.retry_after} if client.retry_after else {}
    error = {"error": client.failure_error, "error_description": client.failure_description}
    failures: dict[str, Reply] = {
        "status": answer_json(error, client.failure_status, headers),
        "error_200": answer_json(error, headers=headers),
        "garbage": Answer(body=b'{"access_token": "\xff\x00', headers=headers),
        "html": Answer(body=b"<!doctype html><title>Welcome</title>", headers=headers, content_type="text/html"),
        "empty": Answer(headers=headers),
        "huge": Stream(itertools.repeat(b" " * 65_536, HUGE_BYTES // 65_536), content_type="application/json"),
        "redirect": Answer(307, headers={"Location": client.failure_location or "/oauth/elsewhere"}),
        "close": Raw(lambda wire: wire.close()),
        "lost_close": Raw(lambda wire: wire.close()),
        "hang": Raw(lambda wire: wire.pause(WAIT_SECONDS)),
        "lost_hang": Raw(lambda wire: wire.pause(WAIT_SECONDS)),
    }
    return failures[failure]
