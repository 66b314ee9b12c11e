"""Input that no honest client sends, to every operation of the OpenAPI document: a clear 4xx, never a 500."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from connections.models import ExternalApiConnection
from external_apis.models import AuditEvent, ExternalApi
from tests.factories import make_connection
from tests.operations import DocumentedOperation, operations
from tests.rest import RestClient, with_key

pytestmark = pytest.mark.django_db

_BODIES = {
    "broken off": b'{"name": "x"',
    "not JSON": b"name=x",
    "not UTF-8": b'{"name": "\xff\xfe\xfd"}',
    "an array": b"[]",
    "a string": b'"x"',
    "null": b"null",
    "a NUL byte": b'{"name": "a\\u0000b"}',
    "a NUL byte in a key": b'{"na\\u0000me": "x"}',
    "a lone surrogate": b'{"name": "\\ud800"}',
    "a key twice": b'{"name": "a", "name": "b"}',
    "a key twice inside": b'{"metadata": {"a": 1, "a": 2}}',
    "NaN": b'{"name": NaN}',
    "an endless number": b'{"name": ' + b"9" * 10_000 + b"}",
    "an infinite number": b'{"metadata": {"a": 1e999}}',
    "deep": b'{"metadata": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "an unknown field": b'{"__class__": 1}',
    "a lookup": b'{"name__icontains": "x"}',
    "a connector": b'{"_connector": "OR"}',
}
_QUERIES = (
    "unknown=1", "__=1", "_connector=OR", "_negated=1", "pk__in=1", "status__in=active", "tenant__name=x",
    "search__regex=(a*)*b", "%00=1", "search=%00", "page=99999999999999999999", "page=0", "page=-1", "page=1e3",
    "perPage=101", "perPage=0", "limit=99999999999999999999", "limit=-1", "offset=99999999999999999999", "page=",
    "page=1&page=2", "limit=1&limit=2", "page=%D9%A1", "status=%ED%A0%80", "%FF%FE=1",
)  # fmt: skip
_REFERENCES = (
    "x" * 5_000, "%F0%9F%90%98", "%FF%FE", "..", "%2e%2e%2fetc", "' OR 1=1 --", "%25", "*", "null", "0", "-1",
    "a,b", "%ED%A0%80", "__class__",
)  # fmt: skip
_CODES_OF_400 = {"VALIDATION_ERROR", "INVALID_REQUEST"}


@pytest.fixture
def row(settings: Any) -> ExternalApiConnection:
    settings.SERVICE_API_RATE_LIMIT = settings.ADMIN_API_RATE_LIMIT = 100_000
    return make_connection()


def _url(operation: DocumentedOperation, row: ExternalApiConnection) -> str:
    known = {"connection_reference": row.pk, "connection_id": row.pk}
    return operation.at(**{name: known.get(name, row.external_api_id) for name in operation.path_names})


def _with_body() -> Iterator[DocumentedOperation]:
    return (operation for operation in operations() if operation.body is not None)


def _problem(response: Any, expected: int | tuple[int, ...]) -> str:
    """Say what is wrong with a refusal: its status, its shape, or its length."""
    statuses = (expected,) if isinstance(expected, int) else expected
    if response.status_code not in statuses:
        return f"{response.status_code} {response.content[:200]!r}"
    error = response.json().get("error", {})
    if not error.get("code") or not error.get("message") or "details" not in error:
        return f"no error of ours: {response.content[:200]!r}"
    if response.status_code == 400 and error["code"] not in _CODES_OF_400:
        return f"another code: {error['code']}"
    return "an answer as long as the question" * (len(response.content) > 8_000)


def _send(client: RestClient, operation: DocumentedOperation, url: str, body: bytes, kind: str) -> Any:
    return client.generic(operation.method.upper(), url, body, content_type=kind)


@pytest.mark.parametrize("body", _BODIES.values(), ids=_BODIES.keys())
def test_bodies(row: ExternalApiConnection, body: bytes) -> None:
    client, before = with_key(), _written()
    wrong = {
        str(operation): problem
        for operation in _with_body()
        if (problem := _problem(_send(client, operation, _url(operation, row), body, "application/json"), (400, 404)))
    }
    assert not wrong
    assert _written() == before


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("text/plain", b"x", 415),
        ("application/x-www-form-urlencoded", b"name=x", 415),
        ("multipart/form-data; boundary=b", b"--b--\r\n", 415),
        ("application/xml", b"<x/>", 415),
        ("application/json; charset=utf-16", '{"name": "x"}'.encode("utf-16"), (400, 404)),
        ("application/json", b"x" * 3_000_000, 413),
        ("text/plain", b"x" * 3_000_000, 413),
    ],
)
def test_content_types_and_lengths(row: ExternalApiConnection, kind: str, body: bytes, status: Any) -> None:
    client, before, wrong = with_key(), _written(), {}
    for operation in _with_body():
        problem = _problem(_send(client, operation, _url(operation, row), body, kind), status)
        # What is not there is told before the body is looked at, or after.
        if problem and not problem.startswith("404 "):
            wrong[str(operation)] = problem
    assert not wrong
    assert _written() == before


@pytest.mark.parametrize(
    ("query", "name"), [("limit=1_0", "limit"), ("offset=%2B1", "offset"), ("search=%FF", "search"), ("a=%C3&b=1", "a")]
)
def test_a_query_of_a_list_is_read_strictly(row: ExternalApiConnection, query: str, name: str) -> None:
    for path in ("/admin/external-apis", f"/admin/external-apis/{row.external_api_id}/connections"):
        response = with_key().get(f"{path}?{query}")
        assert response.status_code == 400
        assert response.json()["error"]["details"]["errors"][0]["path"] == name


def test_an_unknown_field_is_named(row: ExternalApiConnection) -> None:
    client, wrong = with_key(), {}
    for operation in _with_body():
        response = client.send(operation.method, _url(operation, row), {"surely_unknown": 1})
        if response.status_code != 404 and b"surely_unknown" not in response.content:
            wrong[str(operation)] = response.content
    assert not wrong


@pytest.mark.parametrize("query", _QUERIES)
def test_queries(row: ExternalApiConnection, query: str) -> None:
    """A parameter that an operation has, with a value that it takes, is the one case that is answered."""
    client, wrong = with_key(), {}
    name = query.partition("=")[0]
    for operation in operations():
        if operation.method != "get":
            continue
        response = client.get(f"{_url(operation, row)}?{query}")
        takes_any_query = not operation.query and operation.path.startswith("/admin/")  # seed 000 reads none there
        if response.status_code in (200, 404) and (name in operation.query or takes_any_query):
            continue
        if problem := _problem(response, (400, 404, 503)):
            wrong[str(operation)] = problem
    assert not wrong


@pytest.mark.parametrize("reference", _REFERENCES)
def test_references(row: ExternalApiConnection, reference: str) -> None:
    client, before, wrong = with_key(), _written(), {}
    for operation in operations():
        for name in operation.path_names:
            known = {"connection_reference": row.pk, "reference": row.external_api_id}
            values = {other: known.get(other, row.pk) for other in operation.path_names} | {name: reference}
            response = client.generic(operation.method.upper(), operation.at(**values), b"", "application/json")
            if problem := _problem(response, (400, 404, 405)):
                wrong[f"{operation} {name}"] = problem
    assert not wrong
    assert _written() == before


def _written() -> Mapping[str, int]:
    return {
        model.__name__: model._default_manager.count() for model in (ExternalApi, ExternalApiConnection, AuditEvent)
    }


@pytest.mark.parametrize("value", [None, 7, "", "x" * 100_000, [None], {"a": {}}])
def test_no_value_of_any_field_is_a_server_error(row: ExternalApiConnection, value: Any) -> None:
    client, wrong = with_key(), {}
    for operation in _with_body():
        for name in operation.body or ():
            response = client.send(operation.method, _url(operation, row), {name: value})
            if response.status_code >= 500:
                wrong[f"{operation} {name}"] = response.content
    assert not wrong
