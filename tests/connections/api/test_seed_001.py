"""Seed 001's tables of endpoints, each method and path: good input, wrong input, too little scope, another's row.

What is wrong input comes from the OpenAPI document: each field of a body and each parameter with values of other kinds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from external_apis.models import Tenant
from tests.backoffice import ROWS
from tests.envelope import EXTERNAL, checked, client_of, failure_of
from tests.factories import make_key, make_tenant
from tests.operations import DocumentedOperation, document, operations
from tests.rest import RestClient

pytestmark = pytest.mark.django_db

NEVER = "0" * 26


@dataclass(frozen=True)
class Endpoint:
    """``kind`` is what `tests.backoffice` makes for ``:id``; ``body`` is good input, made for that row."""

    method: str
    path: str
    scope: str | None
    kind: str = ""
    body: Callable[[str], Mapping[str, Any]] | None = None
    status: int = 200
    is_of_the_installation: bool = False
    needs_a_row_of: str = field(default="")

    def __str__(self) -> str:
        return f"{self.method.upper()} {self.path}"


def _given(**fields: Any) -> Callable[[str], Mapping[str, Any]]:
    return lambda _: fields


_MODEL = _given(name="gpt-4-turbo", label="GPT-4 Turbo", tier="premium", supportsMedia=True)
_BLOG = _given(title="New", slug="new", body="# New", status="draft")

ENDPOINTS = (
    Endpoint("post", "/auth/validate", None),
    Endpoint("get", "/auth/me", None),
    Endpoint("get", "/users", "users:read"),
    Endpoint("get", "/users/:id", "users:read", "user"),
    Endpoint("patch", "/users/:id/plan", "users:write", "user", _given(plan="professional")),
    Endpoint("patch", "/users/:id/tokens", "users:write", "user", _given(tokens=1000, operation="add")),
    Endpoint("delete", "/users/:id", "users:write", "user"),
    Endpoint("get", "/users/:id/sessions", "users:read", "user"),
    Endpoint("delete", "/users/:id/sessions/:sessionId", "users:write", "session"),
    Endpoint("get", "/models", "models:read"),
    Endpoint("post", "/models", "models:write", body=_MODEL, status=201),
    Endpoint("get", "/models/:id", "models:read", "model"),
    Endpoint("patch", "/models/:id", "models:write", "model", _given(label="Changed")),
    Endpoint("delete", "/models/:id", "models:write", "model"),
    Endpoint("post", "/models/reorder", "models:write", body=lambda row: {"ids": [row]}, needs_a_row_of="model"),
    Endpoint("get", "/affiliates", "affiliates:read"),
    Endpoint("get", "/affiliates/:id", "affiliates:read", "affiliate"),
    Endpoint("delete", "/affiliates/:id", "affiliates:write", "affiliate"),
    Endpoint("get", "/withdrawals", "withdrawals:read"),
    Endpoint(
        "put",
        "/withdrawals",
        "withdrawals:write",
        body=lambda row: {"id": row, "status": "approved"},
        needs_a_row_of="withdrawal",
    ),
    Endpoint("get", "/analytics/overview", "analytics:read"),
    Endpoint("get", "/analytics/tracking", "analytics:read"),
    Endpoint("get", "/analytics/resources", "analytics:read", is_of_the_installation=True),
    Endpoint("get", "/analytics/usage", "analytics:read"),
    Endpoint("get", "/blogs", "content:read"),
    Endpoint("post", "/blogs", "content:write", body=_BLOG, status=201),
    Endpoint("get", "/blogs/:id", "content:read", "blog"),
    Endpoint("patch", "/blogs/:id", "content:write", "blog", _given(title="Changed")),
    Endpoint("delete", "/blogs/:id", "content:write", "blog"),
    Endpoint("get", "/feature-requests", "content:read"),
    Endpoint("patch", "/feature-requests/:id", "content:write", "feature_request", _given(status="planned")),
    Endpoint("get", "/contact-messages", "content:read"),
    Endpoint("delete", "/contact-messages/:id", "content:write", "contact_message"),
    Endpoint("get", "/system/health", None),
    Endpoint("get", "/system/tests", "system:read", is_of_the_installation=True),
    Endpoint("post", "/system/tests", "system:write", body=_given(tests=["database"]), is_of_the_installation=True),
    Endpoint("post", "/system/cache/clear", "system:write", is_of_the_installation=True),
    Endpoint("get", "/system/audit-log", "audit:read"),
)
_BODY_METHODS = [endpoint for endpoint in ENDPOINTS if endpoint.body is not None]
_OF_KINDS = [endpoint for endpoint in ENDPOINTS if endpoint.kind or endpoint.needs_a_row_of]
_EVERY = pytest.mark.parametrize("endpoint", ENDPOINTS, ids=str)


@pytest.fixture(autouse=True)
def _many_requests(settings: Any) -> None:
    settings.ADMIN_API_RATE_LIMIT = 100_000


def _documented(endpoint: Endpoint) -> DocumentedOperation:
    wanted = EXTERNAL + re.sub(r":\w+", "{}", endpoint.path)
    for operation in operations():
        if operation.method == endpoint.method and re.sub(r"\{\w+\}", "{}", operation.path) == wanted:
            return operation
    raise AssertionError(f"{endpoint} is not in the OpenAPI document")


def _row(endpoint: Endpoint, tenant: Tenant | None) -> tuple[str, ...]:
    """Make what the endpoint is about; returns the ids for its path, or for its body."""
    kind = endpoint.kind or endpoint.needs_a_row_of
    return ROWS[kind](tenant) if kind else ()


def _send(client: RestClient, endpoint: Endpoint, ids: tuple[str, ...], body: Any = None, query: str = "") -> Any:
    path = endpoint.path
    if endpoint.kind:
        for row_id in ids:
            path = re.sub(r":\w+", row_id, path, count=1)
    if body is None and endpoint.body is not None:
        body = endpoint.body(ids[0] if ids else "")
    return client.send(endpoint.method, f"{EXTERNAL}{path}{query}", body)


def _without(scope: str) -> str:
    """A key that may do everything else."""
    return "audit:read" if scope != "audit:read" else "users:read"


@_EVERY
def test_good_input_is_answered_in_the_envelope(endpoint: Endpoint) -> None:
    tenant = None if endpoint.is_of_the_installation else make_tenant()
    client = client_of(make_key(tenant=tenant, scopes=[endpoint.scope or "users:read"]).token)
    response = _send(client, endpoint, _row(endpoint, tenant))
    body = checked(response)
    # This process has neither a worker nor a scheduler, of which health tells.
    expected = 503 if endpoint.path == "/system/health" else endpoint.status
    assert response.status_code == expected, body


@_EVERY
def test_a_key_without_the_scope_is_refused(endpoint: Endpoint) -> None:
    if endpoint.scope is None:
        pytest.skip("needs none")
    tenant = make_tenant()
    client = client_of(make_key(tenant=tenant, scopes=[_without(endpoint.scope)]).token)
    assert failure_of(_send(client, endpoint, _row(endpoint, tenant))) == (403, "FORBIDDEN")


@_EVERY
def test_nobody_is_let_in_without_a_key(endpoint: Endpoint) -> None:
    if endpoint.path == "/system/health":
        pytest.skip("is open")
    for header, code in (
        ({}, "MISSING_AUTH_HEADER"),
        ({"Authorization": "Basic eDp5"}, "INVALID_AUTH_SCHEME"),
        ({"Authorization": "Bearer sk_live_nobodys"}, "INVALID_API_KEY"),
    ):
        client = RestClient(headers=header)
        assert failure_of(_send(client, endpoint, _never(endpoint))) == (401, code)


@pytest.mark.parametrize("endpoint", _OF_KINDS, ids=str)
def test_another_tenants_row_is_as_one_that_never_was(endpoint: Endpoint) -> None:
    mine, theirs = make_tenant(), make_tenant()
    client = client_of(make_key(tenant=mine, scopes=[endpoint.scope or ""]).token)
    ids = _row(endpoint, theirs)
    expected = (404, "NOT_FOUND")
    if endpoint.path == "/models/reorder":
        expected = (400, "VALIDATION_ERROR")  # the list is what is wrong
    assert failure_of(_send(client, endpoint, ids)) == expected
    assert failure_of(_send(client, endpoint, _never(endpoint))) == expected
    everybody = client_of(make_key(scopes=[endpoint.scope or ""]).token)
    assert checked(_send(everybody, endpoint, ids))["success"] is True  # it was there, and has not been touched


@pytest.mark.parametrize("endpoint", _BODY_METHODS, ids=str)
def test_a_wrong_body_is_told_by_field(endpoint: Endpoint) -> None:
    tenant = None if endpoint.is_of_the_installation else make_tenant()
    client = client_of(make_key(tenant=tenant, scopes=[endpoint.scope or ""]).token)
    ids = _row(endpoint, tenant)
    good = dict(endpoint.body(ids[0] if ids else "")) if endpoint.body else {}
    for name, body in _wrong_bodies(_documented(endpoint), good):
        response = _send(client, endpoint, ids, body)
        assert failure_of(response) == (400, "VALIDATION_ERROR"), (name, body)
        if name:
            errors = response.json()["error"]["details"]["errors"]
            assert any(error["path"].partition(".")[0] == name for error in errors), (name, body, errors)


@_EVERY
def test_a_wrong_query_is_told_by_name(endpoint: Endpoint) -> None:
    tenant = None if endpoint.is_of_the_installation else make_tenant()
    client = client_of(make_key(tenant=tenant, scopes=[endpoint.scope or "users:read"]).token)
    ids = _row(endpoint, tenant)
    for name, value in _wrong_parameters(_documented(endpoint)):
        response = _send(client, endpoint, ids, query=f"?{name}={value}")
        assert failure_of(response) == (400, "VALIDATION_ERROR"), (name, value)
        assert response.json()["error"]["details"]["errors"][0]["path"] == name


@pytest.mark.parametrize("path", sorted({endpoint.path for endpoint in ENDPOINTS}))
def test_other_methods_are_not_allowed(path: str) -> None:
    known = {endpoint.method for endpoint in ENDPOINTS if endpoint.path == path}
    documented = {operation.method for operation in operations() if operation.path == _documented_path(path)}
    assert known <= documented
    client = client_of(make_key().token)
    for method in {"get", "post", "put", "patch", "delete"} - documented:
        response = client.send(method, EXTERNAL + re.sub(r":\w+", NEVER, path))
        assert failure_of(response) == (405, "METHOD_NOT_ALLOWED"), method


def _documented_path(path: str) -> str:
    wanted = EXTERNAL + re.sub(r":\w+", "{}", path)
    return next(entry.path for entry in operations() if re.sub(r"\{\w+\}", "{}", entry.path) == wanted)


def _never(endpoint: Endpoint) -> tuple[str, ...]:
    return (f"never_{NEVER}",) * max(1, endpoint.path.count(":"))


def _wrong_bodies(operation: DocumentedOperation, good: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "unknown", {**good, "unknown": 1}
    for body in ([], "x", 7, [good]):
        yield "", body
    for name in operation.required:
        yield name, {key: value for key, value in good.items() if key != name}
    for name, schema in (operation.body or {}).items():
        kinds = _kinds(schema)
        for kind, value in _OF_OTHER_KINDS:
            if not kind & kinds:
                yield name, {**good, name: value}


_OF_OTHER_KINDS: tuple[tuple[set[str], Any], ...] = (
    ({"array"}, ["x"]),
    ({"object"}, {"a": {"b": 1}}),
    ({"number"}, 1.5),
    ({"boolean"}, True),
    ({"null"}, None),
    (set(), 10**30),
    (set(), "x" * 400_000),
    (set(), "\0"),
)
"""Values, and the kinds that they are of; none at all for what no field takes, of whatever kind it is."""


def _kinds(schema: Mapping[str, Any]) -> set[str]:
    """The JSON types that a field may have, whichever way its schema says so."""
    if "$ref" in schema:
        return _kinds(document()["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    told = schema.get("type", ())
    found = {told} if isinstance(told, str) else set(told)
    return found.union(*(_kinds(other) for key in ("anyOf", "oneOf", "allOf") for other in schema.get(key, ())))


def _wrong_parameters(operation: DocumentedOperation) -> Iterator[tuple[str, str]]:
    yield "unknown", "1"
    for name, schema in operation.query.items():
        kinds = {schema.get("type"), *(entry.get("type") for entry in schema.get("anyOf", ()))}
        if "integer" in kinds:
            bounds = (str(schema["minimum"] - 1), str(schema["maximum"] + 1))
            yield from ((name, value) for value in ("x", "-1", "1e3", "9" * 20, *bounds))
        elif "enum" in schema or "$ref" in schema or schema.get("format") in ("date", "date-time"):
            yield name, "wrong"
        elif "boolean" in kinds:
            yield name, "perhaps"
        elif "maxLength" in schema:
            yield name, "x" * (schema["maxLength"] + 1)
