"""What every answer under ``/api/external`` is like: envelope, codes, limits, queries, bodies, log."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import Any, cast

import pytest
import time_machine
from django.db import OperationalError
from django.urls import URLResolver, get_resolver

from external_apis import scopes
from external_apis.admin_api.frame import ResourceView, UnknownEndpoint
from external_apis.admin_api.operations import operation_of
from external_apis.models import ApiKey, Tenant
from tests.envelope import EXTERNAL, LIMIT_HEADERS, checked, client_of, data_of, failure_of, named_by
from tests.factories import make_key, make_tenant
from tests.rest import RestClient, with_key

pytestmark = pytest.mark.django_db
TENANTS = f"{EXTERNAL}/tenants"


def test_an_answer_and_a_page() -> None:
    tenant = make_tenant("acme")
    body = checked(with_key().get(f"{TENANTS}/{tenant.pk}"))
    assert set(body) == {"success", "data", "meta"}
    assert set(body["data"]) == {"id", "slug", "name", "isActive", "createdAt", "updatedAt"}
    body = checked(with_key().get(TENANTS))
    assert body["pagination"] == {
        "page": 1, "perPage": 20, "total": 1, "totalPages": 1, "hasNext": False, "hasPrev": False,
    }  # fmt: skip


def test_the_request_id_is_the_senders_where_it_is_well_formed() -> None:
    for given, taken in (("order-4711_a.b", True), ("short", False), ("x" * 65, False), ("a b c d e f", False)):
        response = with_key().get(TENANTS, headers={"X-Request-Id": given})
        assert (checked(response)["meta"]["requestId"] == given) is taken


class TestCodes:
    """Every code of the seed's table, and those beside them."""

    @pytest.mark.parametrize(
        ("header", "code"),
        [
            (None, "MISSING_AUTH_HEADER"),
            ("", "MISSING_AUTH_HEADER"),
            ("Basic YTpi", "INVALID_AUTH_SCHEME"),
            ("Bearer sk_live_nothing", "INVALID_API_KEY"),
            ("Bearer a.b.c", "INVALID_TOKEN"),
        ],
    )
    def test_authentication(self, header: str | None, code: str) -> None:
        response = RestClient(headers={} if header is None else {"Authorization": header}).get(TENANTS)
        assert failure_of(response) == (401, code)
        assert response["WWW-Authenticate"] == "Bearer"

    def test_a_token_that_has_expired(self) -> None:
        token = data_of(with_key().send("post", f"{EXTERNAL}/auth/validate"))["token"]
        with time_machine.travel(time.time() + 3_601):
            assert failure_of(client_of(token).get(TENANTS)) == (401, "TOKEN_EXPIRED")

    def test_no_key_at_all(self, settings: Any) -> None:
        settings.ADMIN_API_KEY = ""
        assert failure_of(client_of("sk_live_any").get(TENANTS)) == (503, "API_KEY_NOT_CONFIGURED")

    def test_unknown_endpoints(self) -> None:
        for path in (
            EXTERNAL,
            f"{EXTERNAL}/",
            f"{EXTERNAL}/nothing",
            f"{TENANTS}/",
            f"{TENANTS}/a/b",
            f"{EXTERNAL}//x",
        ):
            for method in ("get", "post", "delete"):
                for client in (with_key(), RestClient()):
                    assert failure_of(getattr(client, method)(path)) == (404, "ENDPOINT_NOT_FOUND")

    @pytest.mark.parametrize("method", ["put", "delete", "options", "trace"])
    def test_methods_that_are_not_there(self, method: str) -> None:
        response = getattr(with_key(), method)(TENANTS)
        assert failure_of(response) == (405, "METHOD_NOT_ALLOWED")
        assert response["Allow"] == "GET, HEAD, POST"

    def test_a_missing_row(self) -> None:
        for reference in ("ten_missing", "x" * 5_000, "%F0%9F%90%98", "%FF", "' OR 1=1 --"):
            assert failure_of(with_key().get(f"{TENANTS}/{reference}")) == (404, "NOT_FOUND")

    def test_a_conflict(self) -> None:
        make_tenant("acme")
        response = with_key().send("post", TENANTS, {"name": "Acme", "slug": "acme"})
        assert failure_of(response) == (409, "CONFLICT")

    def test_a_scope_that_is_missing(self) -> None:
        client = client_of(make_key(scopes=["tenants:read"]).token)
        assert client.get(TENANTS).status_code == 200
        response = client.send("post", TENANTS, {"name": "Acme", "slug": "acme"})
        assert failure_of(response) == (403, "FORBIDDEN")
        assert response.json()["error"]["details"] == {"scope": "tenants:write"}
        assert not Tenant.objects.exists()

    def test_bodies(self, settings: Any) -> None:
        client = with_key()
        response = client.generic("POST", TENANTS, b"a=b", content_type="application/x-www-form-urlencoded")
        assert failure_of(response) == (415, "UNSUPPORTED_MEDIA_TYPE")
        response = client.post(TENANTS, CONTENT_LENGTH="", headers={"Transfer-Encoding": "chunked"})
        assert failure_of(response) == (411, "LENGTH_REQUIRED")
        settings.MAX_BODY_BYTES = 1_024
        response = client.send("post", TENANTS, {"name": "x" * 2_000, "slug": "x"})
        assert failure_of(response) == (413, "PAYLOAD_TOO_LARGE")

    def test_an_outage(self, monkeypatch: pytest.MonkeyPatch) -> None:
        _break(monkeypatch, OperationalError("connection to host db.internal failed"))
        response = with_key().get(TENANTS)
        assert failure_of(response) == (503, "SERVICE_UNAVAILABLE")
        assert b"db.internal" not in response.content

    def test_whatever_nobody_foresaw(self, monkeypatch: pytest.MonkeyPatch) -> None:
        _break(monkeypatch, RuntimeError("the password is swordfish"))
        response = with_key().get(TENANTS)
        assert failure_of(response) == (500, "INTERNAL_ERROR")
        assert response.json()["error"]["details"] == {"requestId": response["X-Request-Id"]}
        assert b"swordfish" not in response.content

    def test_what_django_itself_refuses(self) -> None:
        assert failure_of(with_key().get(TENANTS, headers={"Host": "evil.example"})) == (400, "VALIDATION_ERROR")
        for url in (f"{TENANTS}/a%00b", f"{TENANTS}?search=%00"):
            assert failure_of(with_key().get(url)) == (400, "VALIDATION_ERROR")


def _break(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr("external_apis.tenants.visible_tenants", fail)


class TestLimits:
    def test_a_key_has_its_own_and_is_told_when_to_come_again(self) -> None:
        client = client_of(make_key(rate_limit=3).token)
        left = []
        for _ in range(3):
            response = client.get(TENANTS)
            assert response["X-RateLimit-Limit"] == "3"
            left.append(int(response["X-RateLimit-Remaining"]))
        assert left == [2, 1, 0]
        began = time.time()
        response = client.get(TENANTS)
        assert failure_of(response) == (429, "RATE_LIMIT_EXCEEDED")
        error = response.json()["error"]
        assert error["message"] == "Rate limit exceeded. Please retry after the reset time."
        reset_at = datetime.fromisoformat(error["details"]["resetAt"])
        assert int(response["X-RateLimit-Reset"]) == int(reset_at.astimezone(UTC).timestamp())
        # Smooth: a third of an hour until the next slot, not the end of the hour.
        assert int(response["Retry-After"]) == pytest.approx(1_200, abs=5)
        assert reset_at.timestamp() - began == pytest.approx(1_200, abs=5)
        assert with_key().get(TENANTS).status_code == 200

    def test_a_refusal_counts_too(self) -> None:
        client = client_of(make_key(rate_limit=2, scopes=[]).token)
        assert failure_of(client.get(TENANTS)) == (403, "FORBIDDEN")
        assert failure_of(client.get(f"{TENANTS}?page=x")) == (403, "FORBIDDEN")
        assert failure_of(client.get(TENANTS)) == (429, "RATE_LIMIT_EXCEEDED")

    def test_whoever_is_not_known_shares_the_addresss_limit(self, settings: Any) -> None:
        settings.ADMIN_API_RATE_LIMIT = 5
        stranger = RestClient()
        seen = [
            stranger.get(TENANTS),
            client_of("sk_live_guess").get(TENANTS),
            stranger.get(f"{EXTERNAL}/nothing"),
            stranger.get(f"{TENANTS}/a%00b"),
            client_of("sk_live_other").get(TENANTS),
        ]
        assert [int(response["X-RateLimit-Remaining"]) for response in seen] == [4, 3, 2, 1, 0]
        for path in (TENANTS, f"{EXTERNAL}/nothing"):
            assert failure_of(stranger.get(path)) == (429, "RATE_LIMIT_EXCEEDED")
        assert failure_of(client_of("sk_live_guess").get(TENANTS)) == (429, "RATE_LIMIT_EXCEEDED")
        # A key is not held up by whoever guesses at the same address.
        assert with_key().get(TENANTS).status_code == 200
        assert failure_of(stranger.get(TENANTS, REMOTE_ADDR="192.0.2.7")) == (401, "MISSING_AUTH_HEADER")

    def test_whoever_asks_how_we_are_is_not_held_up_by_who_guesses_keys(self, settings: Any) -> None:
        settings.ADMIN_API_RATE_LIMIT = 2
        stranger = RestClient()
        assert [stranger.get(TENANTS).status_code for _ in range(3)] == [401, 401, 429]
        health = [stranger.get(f"{EXTERNAL}/system/health") for _ in range(3)]
        assert [answer.status_code for answer in health] == [503, 503, 429]
        assert [answer["X-RateLimit-Remaining"] for answer in health] == ["1", "0", "0"]
        assert stranger.get(f"{EXTERNAL}/system/health", REMOTE_ADDR="192.0.2.7").status_code == 503

    def test_a_keys_own_limit_counts_for_all_three_apis(self) -> None:
        client = client_of(make_key(rate_limit=3, tenant=make_tenant()).token)
        paths = (TENANTS, "/admin/external-apis", "/exsvc/api/v1/services")
        answers = [client.get(path) for path in paths]
        assert [answer.status_code for answer in answers] == [200, 200, 200]
        for answer, left in zip(answers, ("2", "1", "0"), strict=True):
            assert [answer[name] for name in LIMIT_HEADERS[:2]] == ["3", left]
        for path in paths:
            refused = client.get(path)
            assert (refused.status_code, refused["X-RateLimit-Remaining"]) == (429, "0"), path
            assert int(refused["Retry-After"]) == pytest.approx(1_200, abs=5)
            assert refused.json()["error"]["code"] == "RATE_LIMIT_EXCEEDED"

    def test_failures_of_ours_tell_the_keys_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        client = client_of(make_key(rate_limit=7).token)
        _break(monkeypatch, RuntimeError("oh"))
        response = client.get(TENANTS)
        assert [response[name] for name in LIMIT_HEADERS[:2]] == ["7", "6"]


class TestQueries:
    @pytest.mark.parametrize(
        ("query", "name"),
        [
            ("page=0", "page"), ("page=-1", "page"), ("page=x", "page"), ("page=", "page"), ("page=1.5", "page"),
            ("page=99999999999999999999", "page"), ("page=%D9%A1x", "page"),
            ("perPage=0", "perPage"), ("perPage=101", "perPage"), ("perPage=ten", "perPage"),
            ("per_page=5", "per_page"), ("limit=5", "limit"), ("plan=free", "plan"), ("status=active", "status"),
            ("name__icontains=a", "name__icontains"), ("_connector=OR", "_connector"), ("isActive=maybe", "isActive"),
            ("page=1&page=2", "page"), ("search=" + "x" * 201, "search"),
            ("page=1_0", "page"), ("page=%201", "page"), ("page=%2B1", "page"), ("page=%D9%A1", "page"),
            ("perPage=1_0", "perPage"), ("perPage=0x5", "perPage"),
            ("search=%FF", "search"), ("search=%ED%A0%80", "search"), ("page=1&search=a%C3", "search"),
            ("search=a%C3&page=1", "search"), ("%FF=1", "%FF"), ("sea%72ch=%C0%AF", "search"),
        ],
    )  # fmt: skip
    def test_a_wrong_or_unknown_parameter_is_named(self, query: str, name: str) -> None:
        response = with_key().get(f"{TENANTS}?{query}")
        assert failure_of(response) == (400, "VALIDATION_ERROR")
        assert named_by(response) == [name]
        assert name in response.json()["error"]["message"]

    def test_methods_that_take_no_query_refuse_one(self) -> None:
        tenant = make_tenant()
        for method, path in (
            ("get", f"{TENANTS}/{tenant.pk}"),
            ("post", TENANTS),
            ("delete", f"{TENANTS}/{tenant.pk}"),
        ):
            response = with_key().send(method, f"{path}?force=1")
            assert named_by(response) == ["force"]
        assert Tenant.objects.exists()

    def test_pages(self) -> None:
        slugs = [make_tenant(f"t-{number}").slug for number in range(5)]
        client = with_key()
        seen = []
        for page in (1, 2, 3):
            body = checked(client.get(f"{TENANTS}?page={page}&perPage=2"))
            seen += [item["slug"] for item in body["data"]]
            assert body["pagination"] == {
                "page": page, "perPage": 2, "total": 5, "totalPages": 3, "hasNext": page < 3, "hasPrev": page > 1,
            }  # fmt: skip
        assert seen == slugs
        body = checked(client.get(f"{TENANTS}?page=10000000&perPage=100"))
        assert (body["data"], body["pagination"]["total"]) == ([], 5)
        assert (body["pagination"]["hasNext"], body["pagination"]["hasPrev"]) == (False, True)

    def test_search_and_filters(self) -> None:
        make_tenant("acme")
        make_tenant("globex")
        Tenant.objects.filter(slug="globex").update(is_active=False)
        assert [item["slug"] for item in data_of(with_key().get(f"{TENANTS}?search=CM"))] == ["acme"]
        assert [item["slug"] for item in data_of(with_key().get(f"{TENANTS}?isActive=false"))] == ["globex"]
        assert data_of(with_key().get(f"{TENANTS}?search=%25")) == []


class TestBodies:
    @pytest.mark.parametrize(
        ("body", "name"),
        [
            ({"name": "A", "slug": "a", "isAdmin": True}, "isAdmin"),
            ({"name": "A", "slug": "a", "is_active": True}, "is_active"),
            ({"name": "A"}, "slug"),
            ({"name": "A", "slug": "Not a slug"}, "slug"),
            ({"name": "a\0b", "slug": "a"}, "name"),
            ({"name": "A", "slug": "a", "isActive": "perhaps"}, "isActive"),
        ],
    )
    def test_a_wrong_or_unknown_field_is_named(self, body: Any, name: str) -> None:
        response = with_key().send("post", TENANTS, body)
        assert failure_of(response) == (400, "VALIDATION_ERROR")
        assert named_by(response) == [name]
        assert not Tenant.objects.exists()

    @pytest.mark.parametrize(
        "body",
        [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b'{"name":"a","name":"b","slug":"c"}', b'{"name":"\\ud800"}',
         b'{"name":NaN}', b"[" * 100_000, b'{"n":' + b"9" * 10_000 + b"}"],
    )  # fmt: skip
    def test_hostile_bodies(self, body: bytes) -> None:
        response = with_key().post(TENANTS, body, content_type="application/json")
        assert failure_of(response) == (400, "VALIDATION_ERROR")
        assert len(response.content) < 3_000

    def test_where_no_body_belongs_none_is_taken(self) -> None:
        for method, path in (("post", f"{EXTERNAL}/auth/validate"), ("delete", f"{TENANTS}/{make_tenant().pk}")):
            response = with_key().send(method, path, {"force": True})
            assert named_by(response) == ["force"]
        assert data_of(with_key().send("post", f"{EXTERNAL}/auth/validate", {}))["tokenType"] == "Bearer"

    def test_inner_names_come_back_as_they_were_sent(self) -> None:
        body = {
            "name": "P",
            "slug": "p",
            "category": "other",
            "apiConfig": {"base_url": "ftp://x", "auth_type": "none"},
        }
        response = with_key().send("post", f"{EXTERNAL}/providers", body)
        assert named_by(response) == ["apiConfig.base_url"]
        assert "api_config" not in response.content.decode()


def test_queries_of_a_list(django_assert_num_queries: Any) -> None:
    for number in range(5):
        make_tenant(f"t-{number}")
    token = make_key(scopes=["tenants:read"]).token
    for client in (
        client_of(token),
        client_of(data_of(client_of(token).send("post", f"{EXTERNAL}/auth/validate"))["token"]),
    ):
        # The key, and a page that is the last one and knows the total.
        with django_assert_num_queries(2):
            client.get(TENANTS)
    with django_assert_num_queries(3):
        client.get(f"{TENANTS}?perPage=2")
    with django_assert_num_queries(2):  # the total is kept
        client.get(f"{TENANTS}?perPage=2")
    with django_assert_num_queries(0):
        RestClient().get(TENANTS)


def test_every_line_of_the_log_begins_as_the_seed_says(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "external_apis.admin_api.traffic")
    with_key().get(f"{TENANTS}?search=swordfish")
    with_key().send("post", TENANTS, {"name": "Acme", "slug": "acme"})
    RestClient(headers={"Authorization": "Bearer sk_live_swordfish"}).get(f"{EXTERNAL}/x%0A[ExternalAPI]")
    found = [cast("dict[str, Any]", record.msg) for record in caplog.records if "traffic" in record.name]
    assert [(line["event"], line["level"]) for line in found] == [
        (f"[ExternalAPI] GET {TENANTS} 200", "debug"),
        (f"[ExternalAPI] POST {TENANTS} 201", "info"),
        (f"[ExternalAPI] GET {EXTERNAL}/x\\n[ExternalAPI] 404", "info"),
    ]
    assert found[1]["actor"] == "key:ADMIN_API_KEY"
    assert found[1]["request_id"].startswith("req_")
    assert "swordfish" not in str(found)


def _views() -> list[tuple[str, type[ResourceView]]]:
    """Every view under the prefix, by its path."""

    def walk(patterns: Any, path: str) -> Any:
        for pattern in patterns:
            if isinstance(pattern, URLResolver):
                yield from walk(pattern.url_patterns, path + str(pattern.pattern))
                continue
            view = getattr(pattern.callback, "cls", object)
            if issubclass(view, ResourceView):
                yield path + str(pattern.pattern), view

    return [(path, view) for path, view in walk(get_resolver().url_patterns, "/") if view is not UnknownEndpoint]


def test_every_method_is_declared_and_needs_a_scope_that_exists() -> None:
    names = set()
    for path, view in _views():
        assert path.startswith(EXTERNAL)
        for method in ("get", "post", "put", "patch", "delete"):
            handler = getattr(view, method, None)
            if handler is None:
                continue
            operation = operation_of(handler)
            assert operation is not None, (path, method)
            assert operation.name not in names
            names.add(operation.name)
            assert operation.scope is None or operation.scope in scopes.SCOPES
            # Only these say nothing of what belongs to anybody.
            assert operation.scope or path.startswith((f"{EXTERNAL}/auth/", f"{EXTERNAL}/system/health"))
    assert len(names) > 25


def test_no_method_works_without_its_scope(django_assert_num_queries: Any) -> None:
    """A key with every scope but the one that a method needs is refused by each, before anything is looked up."""
    for path, view in _views():
        for method in ("get", "post", "put", "patch", "delete"):
            operation = operation_of(getattr(view, method, None))
            if operation is None or operation.scope is None:
                continue
            others = [scope for scope in scopes.SCOPES if scope not in (operation.scope, "*")]
            client = client_of(make_key(scopes=others).token)
            with django_assert_num_queries(1):
                response = client.send(method, path.replace("<str:", "").replace(">", ""), {})
            assert failure_of(response) == (403, "FORBIDDEN"), (method, path)


def test_a_publishable_key_reaches_nothing_here() -> None:
    key = make_key(type="publishable", tenant=make_tenant(), scopes=[])
    assert ApiKey.objects.filter(pk=key.key.pk).exists()
    for path in (TENANTS, f"{EXTERNAL}/auth/me"):
        assert client_of(key.token).get(path).status_code in (401, 403)
