"""A very small GraphQL: seed 004's ``user`` query and ``createUser`` mutation, with variables, aliases and errors.

``user(id: "missing")`` is an error at its path beside ``null``; ``user(id: "partial")`` gives its data and fails in
``orders`` alone. With ``budget=`` in the query operations cost points, as Shopify counts them: ten for each root field
and one for each field below; ``restore`` points a second come back, and what goes over the budget of a ``key`` is
``THROTTLED``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from connections.sandbox.answers import Refusal, Reply, answer_json
from connections.sandbox.graphql_syntax import Field, GraphqlSyntaxError, parse
from connections.sandbox.request import Request
from connections.sandbox.routing import POST, Route
from connections.sandbox.state import State, now_text

DOCUMENT_CHARACTERS = 100_000

Resolver = Callable[[Mapping[str, Any], State], dict[str, Any]]


class FieldError(Exception):
    """One field has no value; the rest of the answer stands."""


def _find_user(arguments: Mapping[str, Any], state: State) -> dict[str, Any]:
    wanted = arguments.get("id")
    if not isinstance(wanted, str | int) or isinstance(wanted, bool):
        raise FieldError("The argument id of type ID! is required")
    if str(wanted) == "missing":
        raise FieldError("No such user")
    with state.lock:
        created = state.users.get(str(wanted))
    if created is not None:
        return created
    user: dict[str, Any] = {
        "id": str(wanted),
        "name": f"User {wanted}",
        "email": f"user-{wanted}@example.com",
        "role": "USER",
        "createdAt": "2025-01-01T00:00:00Z",
    }
    orders = [{"id": f"{wanted}-{n}", "total": 10 * n, "status": "PAID"} for n in (1, 2)]
    return {**user, "orders": FieldError("Orders are away") if wanted == "partial" else orders}


def _create_user(arguments: Mapping[str, Any], state: State) -> dict[str, Any]:
    given = arguments.get("input")
    if not isinstance(given, dict):
        raise FieldError("The argument input of type CreateUserInput! is required")
    for name in ("name", "email"):
        if not isinstance(given.get(name), str) or not given[name]:
            raise FieldError(f"input.{name} of type String! is required")
    with state.lock:
        number = len(state.users) + 1
        user = {
            "id": f"user_{number}",
            "name": given["name"],
            "email": given["email"],
            "role": given.get("role", "USER"),
            "createdAt": now_text(),
            "orders": [],
        }
        state.users[user["id"]] = user
    return user


ROOTS: dict[str, dict[str, Resolver]] = {
    "query": {"user": _find_user},
    "mutation": {"createUser": _create_user},
}


def execute(request: Request, state: State) -> Reply:
    document, variables, name = _read_body(request)
    try:
        operation = parse(document, variables, name)
    except GraphqlSyntaxError as error:
        return answer_json({"errors": [{"message": str(error)}]}, 400)
    cost = _charge(request, operation.fields, state)
    if cost is not None and cost.pop("isRefused"):
        throttled = {"message": "Throttled", "extensions": {"code": "THROTTLED"}}
        return answer_json({"errors": [throttled], "extensions": {"cost": cost}})
    data: dict[str, Any] = {}
    errors: list[dict[str, Any]] = []
    for field in operation.fields:
        resolver = ROOTS[operation.kind].get(field.name)
        if resolver is None:
            message = f"Cannot query field {field.name} on type {operation.kind.capitalize()}"
            return answer_json({"errors": [{"message": message}]}, 400)
        try:
            value: dict[str, Any] | FieldError = resolver(field.arguments, state)
        except FieldError as error:
            value = error
        data[field.key] = _complete(value, field, [field.key], errors)
    answer = {"data": data, **({"errors": errors} if errors else {})}
    return answer_json(answer if cost is None else {**answer, "extensions": {"cost": cost}})


def _charge(request: Request, fields: Sequence[Field], state: State) -> dict[str, Any] | None:
    """Take the operation's cost from the key's budget; None where the request names no budget."""
    maximum = request.whole("budget", 0, 1_000_000)
    if not maximum:
        return None
    rate, key = request.number("restore", 50, 1_000_000, 0.001), request.parameters.get("key", "")
    cost, now = sum(10 + _count(field.fields) for field in fields), time.monotonic()
    with state.lock:
        points, at = state.budgets.get(key, (float(maximum), now))
        points = min(maximum, points + (now - at) * rate)
        is_refused = cost > points
        points -= 0 if is_refused else cost
        state.budgets[key] = points, now
    throttle = {"maximumAvailable": maximum, "currentlyAvailable": int(points), "restoreRate": rate}
    return {"requestedQueryCost": cost, "throttleStatus": throttle, "isRefused": is_refused}


def _count(fields: Iterable[Field]) -> int:
    return sum(1 + _count(field.fields) for field in fields)


def _read_body(request: Request) -> tuple[str, dict[str, Any], str | None]:
    if request.content_type != "application/json":
        raise Refusal(415, "json_required", "The Content-Type must be application/json")
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "bad_json", "The body is not JSON") from error
    document = body.get("query") if isinstance(body, dict) else None
    if not isinstance(document, str) or len(document) > DOCUMENT_CHARACTERS:
        message = f"The body must be an object with a query of at most {DOCUMENT_CHARACTERS} characters"
        raise Refusal(400, "bad_request", message)
    variables, name = body.get("variables") or {}, body.get("operationName")
    if not isinstance(variables, dict) or not isinstance(name, str | None):
        raise Refusal(400, "bad_request", "variables must be an object and operationName text")
    return document, variables, name


def _complete(value: Any, field: Field, path: list[str | int], errors: list[dict[str, Any]]) -> Any:
    """The value cut down to what was selected; each field that failed is null and adds an error with its path."""
    if isinstance(value, FieldError):
        errors.append({"message": str(value), "path": path})
        return None
    if isinstance(value, list):
        return [_complete(item, field, [*path, number], errors) for number, item in enumerate(value)]
    if isinstance(value, dict) != bool(field.fields):
        message = f"Field {field.name} must {'' if isinstance(value, dict) else 'not '}have a selection of subfields"
        return _complete(FieldError(message), field, path, errors)
    if not isinstance(value, dict):
        return value
    return {child.key: _complete(_pick(value, child), child, [*path, child.key], errors) for child in field.fields}


def _pick(value: dict[str, Any], child: Field) -> Any:
    return value.get(child.name, FieldError(f"There is no field {child.name} here"))


ROUTES = (Route("/graphql", execute, POST, "query user(id), mutation createUser(input); key, budget, restore"),)
