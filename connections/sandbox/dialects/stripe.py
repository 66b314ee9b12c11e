"""Stripe's customers and payment intents (docs.stripe.com/api): forms in, objects out, errors, idempotency keys."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any

from connections.sandbox.answers import Answer, Reply, answer_json
from connections.sandbox.forms import nest
from connections.sandbox.request import Request, parse_pairs
from connections.sandbox.routing import GET, POST, Route
from connections.sandbox.state import State

_FIELDS = frozenset(("description", "email", "metadata", "name", "phone"))
_INTENT_FIELDS = frozenset(
    ("amount", "automatic_payment_methods", "currency", "customer", "description", "metadata", "payment_method")
)
_QUERY = re.compile(r"metadata\['([^']+)'\]:'([^']*)'")
_BARE, _READY = "requires_payment_method", "requires_confirmation"
_Make = Callable[[Mapping[str, Any]], Answer | dict[str, Any]]


def create_customer(request: Request, state: State) -> Reply:
    return _once(request, state, lambda given: _make(state, f"cus_{state.make_id()[:14]}", "customer", given), _FIELDS)


def create_intent(request: Request, state: State) -> Reply:
    def make(given: Mapping[str, Any]) -> Answer | dict[str, Any]:
        if not str(given.get("amount", "")).isdigit() or not given.get("currency"):
            return _refuse(request, 400, "Missing required param: amount.", param="amount")
        made = {**given, "amount": int(given["amount"]), "status": _READY if given.get("payment_method") else _BARE}
        return _make(state, f"pi_{state.make_id()[:24]}", "payment_intent", made)

    return _once(request, state, make, _INTENT_FIELDS)


def confirm_intent(request: Request, state: State) -> Reply:
    """The payment method decides how it ends, as with Stripe's own test cards."""

    def confirm(given: Mapping[str, Any]) -> Answer | dict[str, Any]:
        found = _find(request, state, "payment_intent")
        if isinstance(found, Answer):
            return found
        method = given.get("payment_method") or found.get("payment_method")
        if found["status"] not in (_READY, _BARE) or not method:
            return _refuse(request, 400, "It cannot be confirmed like this.", code="payment_intent_unexpected_state")
        if method == "pm_card_chargeDeclined":
            declined = {"type": "card_error", "code": "card_declined", "message": "Your card was declined."}
            return _answer(request, {"error": declined}, 402)
        status = "requires_action" if method == "pm_card_authenticationRequired" else "succeeded"
        return _change(state, found, status=status, payment_method=method)

    return _once(request, state, confirm, frozenset(("payment_method",)))


def cancel_intent(request: Request, state: State) -> Reply:
    def cancel(_given: Mapping[str, Any]) -> Answer | dict[str, Any]:
        found = _find(request, state, "payment_intent")
        if isinstance(found, Answer):
            return found
        if found["status"] in ("succeeded", "canceled"):
            message = f"You cannot cancel this PaymentIntent because it has a status of {found['status']}."
            return _refuse(request, 400, message, code="payment_intent_unexpected_state")
        return _change(state, found, status="canceled")

    return _once(request, state, cancel, frozenset(("cancellation_reason",)))


def create_refund(request: Request, state: State) -> Reply:
    """Of what was paid and not given back yet: all of it unless an ``amount`` is given."""

    def refund(given: Mapping[str, Any]) -> Answer | dict[str, Any]:
        name = str(given.get("payment_intent", ""))
        paid = state.objects.get(name, {})
        if paid.get("object") != "payment_intent":
            return _missing(request, "payment_intent", name)
        if paid["status"] != "succeeded":
            return _refuse(request, 400, f"This PaymentIntent ({name}) does not have a successful charge to refund.")
        rest = paid["amount"] - sum(one["amount"] for one in _refunds(state, name))
        if not rest:
            return _refuse(request, 400, "Charge has already been refunded.", code="charge_already_refunded")
        made = {**given, "amount": int(given.get("amount", rest)), "currency": paid["currency"], "status": "succeeded"}
        return _make(state, f"re_{state.make_id()[:24]}", "refund", made)

    return _once(request, state, refund, frozenset(("amount", "metadata", "payment_intent", "reason")))


def list_refunds(request: Request, state: State) -> Reply:
    with state.lock:
        found = _refunds(state, request.parameters.get("payment_intent"))
    return _answer(request, {"object": "list", "url": "/v1/refunds", "has_more": False, "data": found})


def handle_refunds(request: Request, state: State) -> Reply:
    return create_refund(request, state) if request.method == "POST" else list_refunds(request, state)


def retrieve_intent(request: Request, state: State) -> Reply:
    with state.lock:
        found = _find(request, state, "payment_intent")
    return found if isinstance(found, Answer) else _answer(request, found)


def list_intents(request: Request, state: State) -> Reply:
    """Those of a customer, or all: what a step that was repeated made twice is seen here."""
    customer = request.parameters.get("customer")
    with state.lock:
        made = [one for one in state.objects.values() if one["object"] == "payment_intent"]
    found = [one for one in made if customer is None or one.get("customer") == customer]
    return _answer(request, {"object": "list", "url": "/v1/payment_intents", "has_more": False, "data": found})


def search_customers(request: Request, state: State) -> Reply:
    """By one value of their metadata (docs.stripe.com/search): ``metadata['key']:'value'``."""
    match = _QUERY.fullmatch(request.parameters.get("query", ""))
    if match is None:
        return _refuse(request, 400, "We were unable to parse your search query.", param="query")
    key, value = match.groups()
    with state.lock:
        made = [one for one in state.objects.values() if one["object"] == "customer"]
    found = [one for one in made if one.get("metadata", {}).get(key) == value]
    result = {"object": "search_result", "url": "/v1/customers/search", "has_more": False, "data": found}
    return _answer(request, result)


def handle_intents(request: Request, state: State) -> Reply:
    return create_intent(request, state) if request.method == "POST" else list_intents(request, state)


def list_customers(request: Request, _state: State) -> Reply:
    limit = request.whole("limit", 10, 100, 1)
    start = int(request.parameters.get("starting_after", "cus_0").removeprefix("cus_")) + 1
    found = [{"id": f"cus_{number}", "object": "customer"} for number in range(start, min(start + limit, 26))]
    page = {"object": "list", "url": "/v1/customers", "has_more": start + limit < 26, "data": found}
    return _answer(request, page)


def handle_customer(request: Request, state: State) -> Reply:
    name = request.arguments["id"]
    if not name.startswith("cus_"):
        return _missing(request, "customer", name)
    with state.lock:
        made = state.objects.get(name, _test_customer(name))
        if request.method != "DELETE":
            return _answer(request, made)
        if made.get("deleted"):
            return _missing(request, "customer", name)
        state.objects[name] = {"id": name, "object": "customer", "deleted": True}
        return _answer(request, state.objects[name])


def handle_customers(request: Request, state: State) -> Reply:
    return create_customer(request, state) if request.method == "POST" else list_customers(request, state)


def _once(request: Request, state: State, make: _Make, fields: frozenset[str]) -> Reply:
    """Do what a form asks for, or tell again what came of it where its idempotency key was seen."""
    if request.content_type not in ("application/x-www-form-urlencoded", ""):
        return _refuse(request, 415, "Requests are form-encoded.")
    if request.header("Stripe-Version") is None:
        return _refuse(request, 400, "The Stripe-Version header is missing.")
    key = request.header("Idempotency-Key")
    digest = hashlib.sha256(request.target.encode() + b"\0" + request.body).hexdigest()
    given = nest(parse_pairs(request.body.decode("ascii", "replace")))
    with state.lock:  # until the key is kept: two requests at the same time are one as well
        if key is not None and key in state.made:
            same, kept = state.made[key]
            if same != digest:
                return _refuse(request, 400, "Keys are for one request.")
            return kept if isinstance(kept, Answer) else _answer(request, kept)
        if unknown := sorted(set(given) - fields):
            return _refuse(request, 400, f"Received unknown parameter: {unknown[0]}", param=unknown[0])
        made = make(given)
        if key is not None:  # what it refuses is kept too
            state.made[key] = (digest, made)
    return made if isinstance(made, Answer) else _answer(request, made)


# --- parts, for whoever holds the lock --------------------------------------------------------------------------------


def _make(state: State, name: str, kind: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    made = {"id": name, "object": kind, "livemode": False, "metadata": {}, **fields}
    state.objects[name] = made
    return made


def _test_customer(name: str) -> dict[str, Any]:
    """Whom nobody has made: there all the same, and with a card."""
    card = {"default_payment_method": "pm_card_visa"}
    return {"id": name, "object": "customer", "livemode": False, "invoice_settings": card}


def _find(request: Request, state: State, kind: str) -> Answer | dict[str, Any]:
    name = request.arguments["id"]
    found = state.objects.get(name)
    if found is None or found["object"] != kind:
        return _missing(request, kind, name)
    return found


def _refunds(state: State, intent: str | None) -> list[dict[str, Any]]:
    made = [one for one in state.objects.values() if one["object"] == "refund"]
    return [one for one in made if intent in (None, one["payment_intent"])]


def _change(state: State, found: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    changed = {**found, **fields}
    state.objects[changed["id"]] = changed
    return changed


def _answer(request: Request, data: Any, status: int = 200) -> Answer:
    headers = {"Request-Id": f"req_{hashlib.sha256(request.target.encode()).hexdigest()[:14]}"}
    if key := request.header("Idempotency-Key"):
        headers["Idempotency-Key"] = key
    return answer_json(data, status, headers)


def _missing(request: Request, kind: str, name: str) -> Answer:
    return _refuse(request, 404, f"No such {kind}: '{name}'", param="id", code="resource_missing")


def _refuse(request: Request, status: int, message: str, **fields: str) -> Answer:
    return _answer(request, {"error": {"type": "invalid_request_error", "message": message, **fields}}, status)


_DELETE = frozenset({"DELETE"})
_INTENTS = "/stripe/v1/payment_intents"

ROUTES = (
    Route("/stripe/v1/customers", handle_customers, GET | POST, "Stripe's customers: list, create"),
    Route("/stripe/v1/customers/{id}", handle_customer, GET | _DELETE, "one of them"),
    Route("/stripe/v1/customers/search", search_customers, GET, "those with a value in their metadata"),
    Route(_INTENTS, handle_intents, GET | POST, "Stripe's payment intents: list, create"),
    Route(f"{_INTENTS}/{{id}}", retrieve_intent, GET, "one of them"),
    Route(f"{_INTENTS}/{{id}}/confirm", confirm_intent, POST, "charge it to its payment method"),
    Route(f"{_INTENTS}/{{id}}/cancel", cancel_intent, POST, "end it"),
    Route("/stripe/v1/refunds", handle_refunds, GET | POST, "Stripe's refunds: list, create"),
)
