"""The OpenAPI document is valid, says what the answers really are, and is shown without any outside host."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import jsonschema
import pytest
from drf_spectacular.validation import validate_schema

from tests import seed_bodies
from tests.factories import make_connection, make_provider
from tests.rest import PROVIDERS, RestClient, connections_of, with_key

pytestmark = pytest.mark.django_db


@cache
def _document() -> dict[str, Any]:
    response = RestClient(headers={"Accept": "application/json"}).get("/api/schema")
    assert response.status_code == 200
    document: dict[str, Any] = json.loads(response.content)
    return document


def _check(instance: Any, schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator({**schema, "components": _document()["components"]}).validate(instance)


def _answer_schema(path: str, method: str, status: str) -> dict[str, Any]:
    answer = _document()["paths"][path][method]["responses"][status]
    schema: dict[str, Any] = answer["content"]["application/json"]["schema"]
    return schema


def test_document_is_valid_openapi_3_1() -> None:
    assert _document()["openapi"] == "3.1.0"
    validate_schema(_document())  # type: ignore[no-untyped-call]
    for schema in _document()["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_every_reference_leads_somewhere() -> None:
    """A document has references in parameters and answers too, and each has to stand in the document itself."""
    references = set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(_document())))
    assert len(references) > 50
    lost = {reference for reference in references if not _leads_somewhere(reference)}
    assert not lost
    components = _document()["components"]["schemas"]
    mapping = components["NewProvider"]["properties"]["api_config"]["discriminator"]["mapping"]
    assert set(mapping) == {
        "oauth2",
        "oauth1",
        "client_credentials",
        "jwt_bearer",
        "api_key",
        "basic",
        "bearer",
        "hmac",
        "aws_sigv4",
        "mtls",
        "none",
    }


def _leads_somewhere(reference: str) -> bool:
    place: Any = {"#": _document()}
    for name in reference.split("/"):
        if name not in place:
            return False
        place = place[name]
    return True


def test_parameters_hold_their_choices_and_no_null() -> None:
    """A query has strings alone: what may be left out is left out."""
    found = {
        f"{method} {path} {parameter['name']}": parameter["schema"]
        for path, methods in _document()["paths"].items()
        for method, operation in methods.items()
        for parameter in operation.get("parameters", ())
    }
    assert found["get /api/external/connections/{connection_id}/client environment"] == {
        "type": "string",
        "enum": ["production", "staging", "development"],
    }
    assert not [name for name, schema in found.items() if "null" in json.dumps(schema)]


def test_both_ways_to_authenticate_are_documented() -> None:
    schemes = _document()["components"]["securitySchemes"]
    assert schemes["apiKey"]["scheme"] == "bearer"
    assert schemes["staffSession"]["in"] == "cookie"
    assert {"apiKey": []} in _document()["paths"][PROVIDERS]["get"]["security"]


@pytest.mark.parametrize("body", seed_bodies.ALL, ids=lambda body: body["slug"])
def test_the_seeds_bodies_fit_the_document(body: dict[str, Any]) -> None:
    content = _document()["paths"][PROVIDERS]["post"]["requestBody"]["content"]
    assert set(content) == {"application/json"}
    _check(body, content["application/json"]["schema"])
    with pytest.raises(jsonschema.ValidationError):
        _check({**body, "api_config": {**body["api_config"], "unknown": 1}}, content["application/json"]["schema"])


def test_answers_are_as_documented() -> None:
    api = make_provider()
    row = make_connection(api)
    client = with_key()
    one, its_connections = f"{PROVIDERS}/{{reference}}", f"{PROVIDERS}/{{reference}}/connections"
    for path, url in (
        (PROVIDERS, PROVIDERS),
        (one, f"{PROVIDERS}/{api.pk}"),
        (its_connections, connections_of(api)),
        (f"{its_connections}/{{connection_reference}}", f"{connections_of(api)}/{row.pk}"),
    ):
        _check(client.get(url).json(), _answer_schema(path, "get", "200"))
    _check(client.get(f"{PROVIDERS}/nowhere").json(), _answer_schema(one, "get", "404"))
    answer = client.send("post", PROVIDERS, seed_bodies.STRIPE)
    _check(answer.json(), _answer_schema(PROVIDERS, "post", "201"))


def test_the_page_names_no_outside_host() -> None:
    client = RestClient()
    for url in ("/api/docs", "/api/docs?script="):
        response = client.get(url)
        assert response.status_code == 200
        assert not re.findall(rb"(?:https?:)?//[a-z0-9]", response.content.replace(b"// ", b""))
    page = client.get("/api/docs").content.decode()
    # No script stands in the page itself, so that a strict content security policy can be kept.
    assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
    assert "/static/drf_spectacular_sidecar/" in page
