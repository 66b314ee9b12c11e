"""Stripe's customers (docs.stripe.com/api): forms in, objects and lists out, errors with a type, idempotency keys."""

from __future__ import annotations

import hashlib
from typing import Any

from connections.sandbox.answers import Answer, Reply, answer_json
from connections.sandbox.forms import nest
from connections.sandbox.request import Request, parse_pairs
from connections.sandbox.routing import GET, Route
from connections.sandbox.state import State

_FIELDS = frozenset(("description", "email", "metadata", "name", "phone"))


def create_customer(request: Request, state: State) -> Reply:
    if request.content_type != "application/x-www-form-urlencoded":
        return _refuse(request, 415, "Requests are form-encoded.")
    if request.header("Stripe-Version") is None:
        return _refuse(request, 400, "The Stripe-Version header is missing.")
    body = request.body.decode("ascii", "replace")
    key = request.header("Idempotency-Key")
    digest = hashlib.sha256(request.body).hexdigest()
    with state.lock:
        if key is not None and key in state.made:
            same, made = state.made[key]
            return _answer(request, made) if same == digest else _refuse(request, 400, "Keys are for one request.")
    given = nest(parse_pairs(body))
    if unknown := sorted(set(given) - _FIELDS):
        return _refuse(request, 400, f"Received unknown parameter: {unknown[0]}", param=unknown[0])
    made = {"id": f"cus_{digest[:14]}", "object": "customer", "livemode": False, "metadata": {}, **given}
    if key is not None:
        with state.lock:
            state.made[key] = (digest, made)
    return _answer(request, made)


def list_customers(request: Request, _state: State) -> Reply:
    limit = request.whole("limit", 10, 100, 1)
    start = int(request.parameters.get("starting_after", "cus_0").removeprefix("cus_")) + 1
    found = [{"id": f"cus_{number}", "object": "customer"} for number in range(start, min(start + limit, 26))]
    page = {"object": "list", "url": "/v1/customers", "has_more": start + limit < 26, "data": found}
    return _answer(request, page)


def retrieve_customer(request: Request, _state: State) -> Reply:
    name = request.arguments["id"]
    if not name.startswith("cus_"):
        return _refuse(request, 404, f"No such customer: '{name}'", param="id", code="resource_missing")
    return _answer(request, {"id": name, "object": "customer", "livemode": False})


def handle_customers(request: Request, state: State) -> Reply:
    return create_customer(request, state) if request.method == "POST" else list_customers(request, state)


def _answer(request: Request, data: Any, status: int = 200) -> Answer:
    headers = {"Request-Id": f"req_{hashlib.sha256(request.target.encode()).hexdigest()[:14]}"}
    if key := request.header("Idempotency-Key"):
        headers["Idempotency-Key"] = key
    return answer_json(data, status, headers)


def _refuse(request: Request, status: int, message: str, **fields: str) -> Answer:
    return _answer(request, {"error": {"type": "invalid_request_error", "message": message, **fields}}, status)


ROUTES = (
    Route("/stripe/v1/customers", handle_customers, GET | {"POST"}, "Stripe's customers: list, create"),
    Route("/stripe/v1/customers/{id}", retrieve_customer, GET, "one of them"),
)
