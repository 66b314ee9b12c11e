"""Who gets in at ``/exsvc``, how often, and how everybody else is answered."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import time_machine

from external_apis import keys, outside_tokens
from external_apis.models import ApiKey, AuditEvent, ExternalApi, Tenant
from external_apis.tokens import decode_jwt
from external_apis.trusted_issuers import TrustedIssuer
from tests.exsvc import SERVICES, bearer, of_tenant, service_body
from tests.factories import make_key, make_tenant
from tests.oidc_provider import OidcProvider
from tests.rest import PROVIDERS, RestClient, error_of, with_key

pytestmark = pytest.mark.django_db

AUDIENCE = "https://apis.example.com/exsvc"
LIMIT_HEADERS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")


@pytest.fixture
def issuer(oidc_provider: OidcProvider, settings: Any) -> Iterator[TrustedIssuer]:
    trusted = TrustedIssuer(oidc_provider.issuer, AUDIENCE, "tenant", "scope")
    settings.SERVICE_API_ISSUERS = (trusted,)
    settings.EGRESS_ALLOW = [oidc_provider.netloc]
    outside_tokens._keys_of.cache_clear()
    yield trusted
    outside_tokens._keys_of.cache_clear()


def _claims(issuer: TrustedIssuer, tenant: Any, scope: str = "services:read services:write") -> dict[str, Any]:
    return {"iss": issuer.issuer, "aud": AUDIENCE, "sub": "ann", "exp": int(time.time()) + 60, "scope": scope} | (
        {} if tenant is None else {"tenant": tenant}
    )


def test_a_key_and_the_token_made_from_it() -> None:
    tenant = make_tenant()
    created = make_key(tenant=tenant, scopes=["services:read"])
    by_key = bearer(created.token)
    exchanged = by_key.generic("POST", "/api/external/auth/validate").json()["data"]["token"]
    by_token = bearer(exchanged)
    for client in (by_key, by_token):
        assert client.get(SERVICES).status_code == 200
        shown = client.get("/exsvc/debug/auth").json()
        assert (shown["tenant_id"], shown["scopes"]) == (tenant.pk, ["services:read"])
        assert shown["claims"]["sub"] == created.key.pk
    assert by_token.get("/exsvc/debug/auth").json()["claims"] == decode_jwt(exchanged)
    assert exchanged.rpartition(".")[2].encode() not in by_token.get("/exsvc/debug/auth").content
    keys.revoke(created.key)
    for client in (by_key, by_token):
        assert error_of(client.get(SERVICES)) == (401, "UNAUTHORIZED")


@pytest.mark.parametrize("by", ["pk", "slug"])
def test_an_outside_token_acts_for_the_tenant_that_it_names(
    oidc_provider: OidcProvider, issuer: TrustedIssuer, by: str
) -> None:
    tenant = make_tenant()
    claims = _claims(issuer, getattr(tenant, by))
    client = bearer(oidc_provider.sign(claims))
    url = client.send("post", SERVICES, service_body())["Location"]
    assert client.get(url).json()["tenant_id"] == tenant.pk
    assert error_of(client.get(f"{url}/credentials")) == (403, "FORBIDDEN")
    assert client.get("/exsvc/debug/auth").json() == {
        "tenant_id": tenant.pk,
        "scopes": ["services:read", "services:write"],
        "claims": claims,
    }
    event = AuditEvent.objects.get(action="provider.created")
    assert (event.actor, event.api_key_id) == (f"token:ann@{oidc_provider.netloc}", "")
    assert ExternalApi.objects.get().created_by == event.actor


def test_an_id_goes_before_a_slug_that_looks_like_it(oidc_provider: OidcProvider, issuer: TrustedIssuer) -> None:
    named = make_tenant()
    make_tenant(named.pk)
    assert bearer(oidc_provider.sign(_claims(issuer, named.pk))).get("/exsvc/debug/auth").json()["tenant_id"] == (
        named.pk
    )


@pytest.mark.parametrize("tenant", [None, "", "unknown", 7, ["north"], "x" * 1000, "inactive"])
def test_a_token_without_an_active_tenant_of_ours_is_forbidden(
    oidc_provider: OidcProvider, issuer: TrustedIssuer, tenant: Any
) -> None:
    make_tenant("north")
    Tenant.objects.create(slug="inactive", name="Inactive", is_active=False)
    response = bearer(oidc_provider.sign(_claims(issuer, tenant))).get(SERVICES)
    assert error_of(response) == (403, "FORBIDDEN")
    assert response.json()["error"]["message"] == "The token names no active tenant of this installation."


def test_an_outside_token_opens_nothing_else(oidc_provider: OidcProvider, issuer: TrustedIssuer) -> None:
    tenant = make_tenant()
    client = bearer(oidc_provider.sign(_claims(issuer, tenant.pk, scope="* providers:write keys:write")))
    assert client.get("/exsvc/debug/auth").json()["scopes"] == []
    assert error_of(client.get(SERVICES)) == (403, "FORBIDDEN")
    good = bearer(oidc_provider.sign(_claims(issuer, tenant.pk)))
    assert good.get(SERVICES).status_code == 200
    assert good.get(PROVIDERS).status_code == 401
    assert good.get("/api/external/connections").status_code == 401
    assert good.get("/api/external/auth/me").status_code == 401


def test_an_outside_token_ends(oidc_provider: OidcProvider, issuer: TrustedIssuer) -> None:
    client = bearer(oidc_provider.sign(_claims(issuer, make_tenant().pk)))
    assert client.get(SERVICES).status_code == 200
    with time_machine.travel(time.time() + 120, tick=False):
        response = client.get(SERVICES)
    assert error_of(response) == (401, "UNAUTHORIZED")
    assert response.json()["error"]["details"]["reason"] == "TOKEN_EXPIRED"


def test_a_strange_subject_is_no_actor(oidc_provider: OidcProvider, issuer: TrustedIssuer) -> None:
    claims = _claims(issuer, make_tenant().pk) | {"sub": "a\n\x1b\u202e" + "x" * 500}
    client = bearer(oidc_provider.sign(claims))
    assert client.send("post", SERVICES, service_body()).status_code == 201
    actor = AuditEvent.objects.get(action="provider.created").actor
    assert actor.startswith("token:a???xxx")
    assert len(actor) < 200


@pytest.mark.parametrize("claim", ["sub", "tenant", "more"])
@pytest.mark.parametrize("value", ["\ud800", "a\0"])
def test_claims_that_nothing_could_store_are_an_invalid_token(
    oidc_provider: OidcProvider, issuer: TrustedIssuer, claim: str, value: str
) -> None:
    claims = _claims(issuer, make_tenant().pk) | {claim: value}
    for path in (SERVICES, "/exsvc/debug/auth"):
        response = bearer(oidc_provider.sign(claims)).get(path)
        assert error_of(response) == (401, "UNAUTHORIZED")
        assert response.json()["error"]["details"]["reason"] == "INVALID_TOKEN"


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (None, "MISSING_AUTH_HEADER"),
        ("", "MISSING_AUTH_HEADER"),
        ("Basic YTpi", "INVALID_AUTH_SCHEME"),
        ("Bearer sk_live_wrong", "INVALID_API_KEY"),
        ("Bearer", "INVALID_API_KEY"),
        ("Bearer a.b.c", "INVALID_TOKEN"),
        ("Bearer eyJhbGciOiJub25lIn0.e30.", "INVALID_TOKEN"),
        ("Bearer eyJhbGciOiJub25lIn0." + "W1tb" * 1500 + ".x", "INVALID_TOKEN"),
        ("Bearer " + "x" * 20_000, "INVALID_API_KEY"),
        ("Bearer \xff\xfe", "INVALID_API_KEY"),
    ],
)
def test_nobody_else_gets_in(header: str | None, reason: str) -> None:
    client = RestClient(headers={} if header is None else {"Authorization": header})
    response = client.get(SERVICES)
    assert error_of(response) == (401, "UNAUTHORIZED")
    assert response.json()["error"]["details"]["reason"] == reason
    assert response["WWW-Authenticate"] == "Bearer"
    assert all(response[name] for name in LIMIT_HEADERS)


def test_a_session_does_not_count() -> None:
    from tests.factories import make_user
    from tests.rest import signed_in

    assert error_of(signed_in(make_user(is_superuser=True)).get(SERVICES)) == (401, "UNAUTHORIZED")


def test_a_publishable_key_does_not_count() -> None:
    client = bearer(make_key(tenant=make_tenant(), type="publishable", scopes=[]).token)
    assert error_of(client.get(SERVICES)) == (403, "FORBIDDEN")


def test_the_limit_is_the_tenants(settings: Any) -> None:
    settings.SERVICE_API_RATE_LIMIT = 5
    tenant = make_tenant()
    first, second, other = of_tenant(tenant), of_tenant(tenant), of_tenant(make_tenant())
    before = time.time()
    remaining = [int(client.get(SERVICES)["X-RateLimit-Remaining"]) for client in (first, second, first, second)]
    assert remaining == [4, 3, 2, 1]
    last = first.get("/exsvc/debug/auth")
    assert (last["X-RateLimit-Limit"], last["X-RateLimit-Remaining"]) == ("5", "0")
    assert before < int(last["X-RateLimit-Reset"]) <= before + 62
    for client in (first, second):
        response = client.get(SERVICES)
        assert error_of(response) == (429, "RATE_LIMIT_EXCEEDED")
        assert 1 <= int(response["Retry-After"]) <= 60
        assert response["X-RateLimit-Remaining"] == "0"
    assert other.get(SERVICES).status_code == 200


def test_a_key_with_a_limit_of_its_own_has_both(settings: Any) -> None:
    settings.SERVICE_API_RATE_LIMIT = 4
    tenant = make_tenant()
    own, other = of_tenant(tenant, rate_limit=2), of_tenant(tenant)
    first = own.get(SERVICES)
    assert (first["X-RateLimit-Limit"], first["X-RateLimit-Remaining"]) == ("2", "1")
    assert own.get(SERVICES)["X-RateLimit-Limit"] == "2"
    assert error_of(own.get(SERVICES)) == (429, "RATE_LIMIT_EXCEEDED")
    # What the key's own limit refuses takes nothing from the tenant.
    assert [other.get(SERVICES).status_code for _ in range(3)] == [200, 200, 429]
    ample = of_tenant(make_tenant(), rate_limit=100)
    assert ample.get(SERVICES)["X-RateLimit-Limit"] == "4"


def test_of_the_installation_all_share_one_limit(settings: Any) -> None:
    settings.SERVICE_API_RATE_LIMIT = 2
    assert [client.get(SERVICES).status_code for client in (with_key(), of_tenant(None), with_key())] == [
        200,
        200,
        429,
    ]


def test_failures_share_the_addresss_own_limit(settings: Any) -> None:
    settings.ADMIN_API_RATE_LIMIT = 2
    stranger = RestClient()
    assert [stranger.get(SERVICES).status_code for _ in range(3)] == [401, 401, 429]
    assert of_tenant(make_tenant()).get(SERVICES).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("get", "/exsvc", 404, "SERVICE_NOT_FOUND"),
        ("get", "/exsvc/", 404, "SERVICE_NOT_FOUND"),
        ("get", "/exsvc/api/v1/nothing", 404, "SERVICE_NOT_FOUND"),
        ("post", "/exsvc/api/v1/services/", 404, "SERVICE_NOT_FOUND"),
        ("get", f"{SERVICES}/a/b/c", 404, "SERVICE_NOT_FOUND"),
        ("get", f"{SERVICES}?limit=%00", 400, "INVALID_REQUEST"),
        ("get", f"{SERVICES}/%00", 400, "INVALID_REQUEST"),
        ("get", f"{SERVICES}/%FF", 404, "SERVICE_NOT_FOUND"),
        ("patch", SERVICES, 405, "METHOD_NOT_ALLOWED"),
        ("options", SERVICES, 405, "METHOD_NOT_ALLOWED"),
        ("delete", f"{SERVICES}/x/credentials", 405, "METHOD_NOT_ALLOWED"),
        ("post", "/exsvc/debug/auth", 405, "METHOD_NOT_ALLOWED"),
    ],
)
def test_every_answer_has_the_seeds_shape(method: str, path: str, status: int, code: str) -> None:
    response = getattr(of_tenant(make_tenant()), method)(path, headers={"Accept": "text/html"})
    assert error_of(response) == (status, code)
    assert all(response[name] for name in LIMIT_HEADERS)


def test_bodies_that_are_refused() -> None:
    client = of_tenant(make_tenant())
    large = client.generic("POST", SERVICES, b"x" * 3_000_000, content_type="application/json")
    assert error_of(large) == (413, "PAYLOAD_TOO_LARGE")
    form = client.generic("POST", SERVICES, b"name=x", content_type="application/x-www-form-urlencoded")
    assert error_of(form) == (415, "UNSUPPORTED_MEDIA_TYPE")
    for body in (b"", b"[]", b"{", b'{"name": "a", "name": "b"}', b'{"name": NaN}', b"\xff"):
        response = client.generic("POST", SERVICES, body, content_type="application/json")
        assert error_of(response) == (400, "INVALID_REQUEST")
    for response in (large, form):
        assert all(response[name] for name in LIMIT_HEADERS)


def test_an_unforeseen_failure_tells_nothing_but_the_request_id(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("the password is swordfish")

    monkeypatch.setattr("external_apis.providers.live", fail)
    response = of_tenant(make_tenant()).get(SERVICES)
    assert error_of(response) == (500, "INTERNAL_ERROR")
    assert response.json()["error"]["details"] == {"request_id": response["X-Request-Id"]}
    assert all(response[name] for name in LIMIT_HEADERS)


def test_its_own_document_and_page() -> None:
    client = RestClient()
    document = client.get("/exsvc/schema", headers={"Accept": "application/json"}).json()
    assert document["info"]["title"] == "External Service API"
    assert set(document["paths"]) == {
        SERVICES, f"{SERVICES}/{{service_id}}", f"{SERVICES}/{{service_id}}/credentials", "/exsvc/debug/auth",
    }  # fmt: skip
    operation = document["paths"][f"{SERVICES}/{{service_id}}/credentials"]["get"]
    assert operation["security"] == [{"serviceToken": ["credentials:read"]}]
    assert b"swagger" in client.get("/exsvc/docs").content
    assert ApiKey.objects.count() == 0


def test_one_query_for_an_outside_token(
    oidc_provider: OidcProvider, issuer: TrustedIssuer, django_assert_max_num_queries: Any
) -> None:
    client = bearer(oidc_provider.sign(_claims(issuer, make_tenant().pk)))
    client.get(SERVICES)
    with django_assert_max_num_queries(1):
        assert client.get("/exsvc/debug/auth").status_code == 200
