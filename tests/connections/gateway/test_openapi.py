"""What the OpenAPI document says of the gateway and of the monitors' routes is what they do."""

from __future__ import annotations

from functools import cache
from typing import Any

import jsonschema
import pytest

from connections.gateway.schema import PATH
from tests.connections.gateway.conftest import Connect, proxied
from tests.rest import RestClient

pytestmark = pytest.mark.django_db

METHODS = ("get", "head", "options", "post", "put", "patch", "delete")


@cache
def _document() -> dict[str, Any]:
    document: dict[str, Any] = RestClient(headers={"Accept": "application/json"}).get("/api/schema").json()
    return document


def _headers(method: str, status: str) -> set[str]:
    return set(_document()["paths"][PATH][method]["responses"][status]["headers"])


def test_all_methods_are_there_and_work(connect: Connect, caller: RestClient) -> None:
    assert set(_document()["paths"][PATH]) == set(METHODS)
    row = connect()
    for method in METHODS:
        answer = caller.generic(method.upper(), proxied(row, "/echo"), b"", "text/plain")
        assert answer.status_code < 400, method
        assert all(answer.has_header(name) for name in _headers(method, "default") - {"Idempotent-Replayed"}), method


def test_all_ways_to_authenticate_are_there(connect: Connect) -> None:
    schemes = _document()["components"]["securitySchemes"]
    for method in METHODS:
        ways = [schemes[name] for way in _document()["paths"][PATH][method]["security"] for name in way]
        assert [way.get("scheme", way.get("name")) for way in ways] == ["bearer", "basic", "X-Api-Key"]


def test_refusals_are_as_documented(connect: Connect, caller: RestClient) -> None:
    row = connect(proxy={"paths": ["/echo"]})
    seen = set()
    for client, path, extra in (
        (caller, "/echo/../x", {}),
        (caller, "/echo?dry_run=python", {}),
        (caller, "/other", {}),
        (RestClient(), "/echo", {}),
        (caller, "/echo", {"Idempotency-Key": "ä"}),
    ):
        answer = client.generic("POST", proxied(row, path), b"", "text/plain", headers=extra)
        described = _document()["paths"][PATH]["post"]["responses"][str(answer.status_code)]
        schema = {**described["content"]["application/json"]["schema"], "components": _document()["components"]}
        jsonschema.Draft202012Validator(schema).validate(answer.json())
        assert answer.json()["error"]["code"] in described["description"]
        assert all(answer.has_header(name) for name in described["headers"])
        seen.add(answer.status_code)
    assert seen == {400, 401, 403}


def test_what_monitors_ask_for_is_as_documented(settings: Any) -> None:
    healthz = _document()["paths"]["/healthz"]["get"]["responses"]
    answer = RestClient().get("/healthz")
    jsonschema.validate(answer.json(), healthz[str(answer.status_code)]["content"]["application/json"]["schema"])
    metrics = _document()["paths"]["/metrics"]["get"]
    for token, status in (("", 404), ("canary", 200), ("other", 401)):
        settings.METRICS_TOKEN = token and "canary"
        answer = RestClient(headers={"Authorization": f"Bearer {token}"}).get("/metrics")
        assert answer.status_code == status
        assert answer["Content-Type"].partition(";")[0] in metrics["responses"][str(status)]["content"]
