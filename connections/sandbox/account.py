"""What a small provider would offer: who am I, a balance, and an echo of what arrived."""

from __future__ import annotations

import hashlib
import json
from typing import Any, NoReturn

from connections.sandbox.answers import Reply, answer_json
from connections.sandbox.redaction import group, show_headers, show_query
from connections.sandbox.request import Request, parse_pairs
from connections.sandbox.routing import ANY, GET, Route
from connections.sandbox.state import State


def show_me(request: Request, _state: State) -> Reply:
    return answer_json(
        {
            "id": f"acct_sandbox_{request.scheme.replace('-', '_')}",
            "object": "account",
            "name": "Sandbox account",
            "scheme": request.scheme,
            "is_sandbox": True,
        }
    )


def show_balance(request: Request, _state: State) -> Reply:
    return answer_json(
        {
            "object": "balance",
            "available": [{"amount": 125_000, "currency": "usd"}],
            "pending": [{"amount": 4_200, "currency": "usd"}],
            "livemode": False,
            "scheme": request.scheme,
        }
    )


def echo(request: Request, _state: State) -> Reply:
    text = request.body.decode("utf-8", "replace")
    return answer_json(
        {
            "method": request.method,
            "path": request.target.partition("?")[0],
            "query": show_query(request),
            "headers": show_headers(request),
            "body": text,
            "body_bytes": len(request.body),
            "body_sha256": hashlib.sha256(request.body).hexdigest(),
            "json": _parse_json(request.body),
            "form": group(parse_pairs(text)) if request.content_type == "application/x-www-form-urlencoded" else None,
            "scheme": request.scheme,
        }
    )


def _parse_json(body: bytes) -> Any:
    """The body as JSON, None where it is none, or too deep to be written again."""
    try:
        parsed = json.loads(body, parse_constant=_refuse_constant)
        json.dumps(parsed)
    except (ValueError, RecursionError):
        return None
    return parsed


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


ROUTES = (
    Route("/me", show_me, GET, "the account"),
    Route("/whoami", show_me, GET, "the same: a path for testing a connection"),
    Route("/balance", show_balance, GET, "a balance like a payment provider's"),
    Route("/echo", echo, ANY, "what arrived, credentials left out"),
    Route("/echo/{rest*}", echo, ANY, "the same under any path"),
)
