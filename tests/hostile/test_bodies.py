"""Bodies, addresses and headers that no honest client sends: always a clear 4xx, never a 500."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from external_apis.models import ExternalApi
from tests.factories import make_connection, make_provider, make_user, provider_body
from tests.rest import PROVIDERS, RestClient, connections_of, error_of, signed_in, with_key

pytestmark = pytest.mark.django_db

_BODIES = {
    "nothing": b"",
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
    "NaN": b'{"name": NaN}',
    "an endless number": b'{"name": ' + b"9" * 10_000 + b"}",
    "an infinite number": b'{"api_config": {"timeout_ms": 1e999}}',
    "deep arrays": b'{"api_config": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"api_config": ' + b'{"a":' * 40 + b"1" + b"}" * 40 + b"}",
    "a wrong type": b'{"name": {"a": 1}, "slug": 7, "category": [], "api_config": "x"}',
}


@pytest.mark.parametrize("body", _BODIES.values(), ids=_BODIES.keys())
def test_bodies_that_are_refused(body: bytes) -> None:
    row = make_connection()
    client = with_key()
    one = f"{PROVIDERS}/{row.external_api_id}"
    for method, url in (
        ("post", PROVIDERS),
        ("post", f"{one}/connections"),
        ("patch", one),
        ("patch", f"{one}/connections/{row.pk}"),
    ):
        response = getattr(client, method)(url, body, content_type="application/json")
        if body == b"" and method == "patch":  # no change is a change that succeeds
            assert response.status_code == 200
        else:
            assert error_of(response) == (400, "VALIDATION_ERROR")
            assert len(response.content) < 5_000
    assert ExternalApi.objects.count() == 1


def test_what_could_not_be_stored_is_named() -> None:
    body = {"connection_name": "x", "provider_data": {"page": [{"name": "a\0b"}]}}
    response = with_key().send("post", connections_of(make_provider()), body)
    assert response.json()["error"]["details"]["errors"] == [
        {"path": "provider_data.page.0.name", "message": "contains a NUL byte"}
    ]


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x"]
)
def test_other_content_types_are_refused(content_type: str) -> None:
    for client in (with_key(), signed_in(make_user(is_superuser=True))):
        response = client.generic("POST", PROVIDERS, b"name=x", content_type=content_type)
        assert error_of(response)[0] in (400, 415)
        if content_type != "multipart/form-data":  # it has no boundary, which is refused earlier
            assert error_of(response) == (415, "UNSUPPORTED_MEDIA_TYPE")


def test_a_large_body_is_refused_by_its_length() -> None:
    body = json.dumps(provider_body(name="x" * 10_000_000)).encode()
    for client in (RestClient(), with_key(), signed_in(make_user(is_superuser=True))):
        for content_type in ("application/json", "application/x-www-form-urlencoded"):
            response = client.generic("POST", PROVIDERS, body, content_type=content_type)
            assert error_of(response) == (413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize(("length", "status"), [("ten", 400), ("-1", 400), ("١٢", 400), ("9" * 30, 413)])
def test_a_content_length_that_is_none(length: str, status: int) -> None:
    response = with_key().generic("POST", PROVIDERS, b"", content_type="application/json", CONTENT_LENGTH=length)
    assert error_of(response)[0] == status


def test_a_body_without_a_length_is_refused() -> None:
    response = with_key().post(PROVIDERS, CONTENT_LENGTH="", headers={"Transfer-Encoding": "chunked"})
    assert error_of(response) == (411, "LENGTH_REQUIRED")


@pytest.mark.parametrize(
    "reference",
    ["ext_api_missing", "nothing", "x" * 5_000, "%F0%9F%90%98", "%FF%FE", "..", "%2e%2e%2fetc", "' OR 1=1 --", "%25"],
)
def test_unknown_ids_are_not_found(reference: str) -> None:
    client = with_key()
    api = make_provider()
    for url in (
        f"{PROVIDERS}/{reference}",
        f"{PROVIDERS}/{reference}/connections",
        f"{PROVIDERS}/{reference}/connections/x",
        f"{connections_of(api)}/{reference}",
        f"{connections_of(api)}/{reference}/y/z",
    ):
        assert error_of(client.get(url)) == (404, "NOT_FOUND")


@pytest.mark.parametrize("url", [f"{PROVIDERS}/a%00b", f"{PROVIDERS}?search=a%00b", f"{PROVIDERS}/%00"])
def test_nul_bytes_in_addresses(url: str) -> None:
    assert error_of(with_key().get(url)) == (400, "VALIDATION_ERROR")


def test_a_host_that_is_not_ours() -> None:
    assert error_of(with_key().get(PROVIDERS, headers={"Host": "evil.example"})) == (400, "VALIDATION_ERROR")


@pytest.mark.parametrize("method", ["put", "trace", "options"])
def test_methods_that_are_not_there(method: str) -> None:
    response = getattr(with_key(), method)(PROVIDERS)
    if method == "options":
        assert response.status_code == 200
    else:
        assert error_of(response) == (405, "METHOD_NOT_ALLOWED")
        assert "GET" in response["Allow"]


def test_an_unforeseen_failure_tells_nothing_but_the_request_id(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("the password is swordfish")

    monkeypatch.setattr("external_apis.providers.live", fail)
    response = with_key().get(PROVIDERS)
    assert error_of(response) == (500, "INTERNAL_ERROR")
    assert response.json()["error"]["details"] == {"request_id": response["X-Request-Id"]}
    assert b"swordfish" not in response.content


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = [
    "name", "slug", "category", "provider", "status", "is_sandbox", "environment", "sales_channel_id", "partner_id",
    "id", "api_config", "api_config.base_url", "api_config.auth_type", "api_config.api_key", "api_config.oauth2",
    "api_config.default_headers", "api_config.rate_limit", "api_config.retry_config", "api_config.timeout_ms",
    "api_config.webhook", "api_config.test_path", "api_config.hmac", "api_config.api_key_encrypted",
]  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(field=st.sampled_from(_FIELDS), value=_JSON)
def test_no_value_of_any_field_is_a_server_error(field: str, value: Any) -> None:
    body = provider_body()
    *outer, name = field.split(".")
    (body["api_config"] if outer else body)[name] = value
    api = make_provider()
    client = with_key()
    text = json.dumps(body)
    for method, url, sent in (
        ("post", PROVIDERS, text),
        ("patch", f"{PROVIDERS}/{api.pk}", json.dumps({name: value} if not outer else {"api_config": {name: value}})),
    ):
        response = getattr(client, method)(url, sent, content_type="application/json")
        assert response.status_code in (200, 201, 400, 404, 409), response.content
        if response.status_code < 300:
            assert client.get(f"{PROVIDERS}/{response.json()['id']}").status_code == 200


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(
        ["credentials", "provider_data", "slug", "note", "rotate_by", "owner_id", "status", "user_id"]
    ),
    value=_JSON | st.dictionaries(st.sampled_from(["access_token", "expires_at", "scopes", "additional_data"]), _JSON),
)
def test_no_value_of_a_connections_field_is_a_server_error(name: str, value: Any) -> None:
    row = make_connection()
    client, url = with_key(), connections_of(row.external_api)
    for method, target, body in (
        ("post", url, {"connection_name": "x", name: value}),
        ("patch", f"{url}/{row.pk}", {name: value}),
    ):
        response = getattr(client, method)(target, json.dumps(body), content_type="application/json")
        assert response.status_code in (200, 201, 400, 404, 409), response.content
        if response.status_code < 300:
            assert client.get(f"{url}/{response.json()['id']}").status_code == 200
