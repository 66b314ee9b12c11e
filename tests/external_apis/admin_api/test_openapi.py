"""What the OpenAPI document says of ``/api/external`` is what is answered."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import jsonschema
import pytest

from external_apis import heartbeats, scopes
from tests.affiliates import make_affiliate, make_withdrawal
from tests.ai_models import make_ai_model
from tests.backoffice_users import make_account, make_session
from tests.content import make_blog
from tests.envelope import EXTERNAL, LIMIT_HEADERS
from tests.factories import make_connection, make_key, make_partner, make_provider, make_tenant
from tests.inbound import make_webhook_event
from tests.rest import RestClient, with_key
from tests.webhook_receiver import make_delivery, make_endpoint
from tests.workflow_runs import make_run

pytestmark = pytest.mark.django_db


@cache
def _document() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(RestClient(headers={"Accept": "application/json"}).get("/api/schema").content)
    return document


def _operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operation)
        for path, methods in _document()["paths"].items()
        if path.startswith(EXTERNAL) and "/proxy/" not in path
        for method, operation in methods.items()
    ]


def test_every_operation_names_its_scope_and_every_scope_is_explained() -> None:
    assert len(_operations()) > 25
    for path, _, operation in _operations():
        if path == f"{EXTERNAL}/system/health":
            assert operation["security"] == [{}]
            continue
        ((scheme, needed),) = operation["security"][0].items()
        assert scheme in _document()["components"]["securitySchemes"]
        assert len(needed) == (0 if "/auth/" in path else 1)
        assert all(f"`{scope}`" in operation["description"] for scope in needed)
    explained = _document()["components"]["securitySchemes"]["apiKey"]["description"]
    assert all(f"`{scope}`" in explained for scope in scopes.SCOPES)


def test_every_answer_has_the_limits_headers() -> None:
    for path, method, operation in _operations():
        for status, answer in operation["responses"].items():
            assert set(LIMIT_HEADERS) <= set(answer["headers"]), (path, method, status)


def test_what_a_path_names_may_be_missing() -> None:
    for path, method, operation in _operations():
        if "{" in path:
            assert "404" in operation["responses"], (path, method)


def test_parameters_of_a_list() -> None:
    listed = _document()["paths"][f"{EXTERNAL}/connections"]["get"]["parameters"]
    parameters = {parameter["name"]: parameter["schema"] for parameter in listed}
    assert parameters["perPage"] == {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}
    assert parameters["status"]["enum"] == ["active", "expired", "revoked", "error"]
    assert {"page", "search", "externalApiId", "salesChannelId"} <= set(parameters)
    audit_log = _document()["paths"][f"{EXTERNAL}/system/audit-log"]["get"]["parameters"]
    assert {"from", "to", "actor", "action", "object"} <= {parameter["name"] for parameter in audit_log}


def test_answers_are_as_documented() -> None:
    row = make_connection(make_provider(slug="stripe"), tenant=make_tenant())
    rows = {
        "providers": row.external_api_id,
        "connections": row.pk,
        "tenants": row.tenant_id,
        "api-keys": make_key().key.pk,
    }
    rows["partners"] = make_partner().pk
    rows["webhook-events"] = make_webhook_event().pk
    rows["workflows"] = make_run().pk
    rows["models"] = make_ai_model().pk
    rows["users"] = make_session(make_account()).account_id
    rows["affiliates"] = make_affiliate().pk
    rows["blogs"] = make_blog().pk
    make_withdrawal()
    endpoint = make_endpoint(None)
    rows["webhook-endpoints"], delivery = endpoint.pk, make_delivery(endpoint)
    for kind in heartbeats.LIVES_SECONDS:
        heartbeats.note(kind)
    client = with_key()
    checked = 0
    for path, method, operation in _operations():
        if method != "get":
            continue
        resource = path.removeprefix(f"{EXTERNAL}/").partition("/")[0]
        beginning, brace, rest = path.partition("{")
        url = beginning + (f"{rows[resource]}{rest.partition('}')[2]}" if brace else "")
        url = url.replace("{delivery_id}", delivery.pk)
        for answer in (client.get(url), RestClient().get(url), client.get(f"{url}?unknown=1")):
            content = operation["responses"][str(answer.status_code)]["content"]["application/json"]
            schema = {**content["schema"], "components": _document()["components"]}
            jsonschema.Draft202012Validator(schema).validate(answer.json())
            checked += 1
    assert checked >= 36
