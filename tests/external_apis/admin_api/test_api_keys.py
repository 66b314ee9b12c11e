"""``/api/external/api-keys``: the token once, the facts for ever after, and nobody beyond their rights."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.utils import timezone

from external_apis import key_upkeep, keys
from external_apis.models import ApiKey, AuditEvent
from tests.factories import make_key, make_tenant
from tests.rest import RestClient

pytestmark = pytest.mark.django_db
KEYS = "/api/external/api-keys"


def client_of(token: str) -> RestClient:
    return RestClient(headers={"Authorization": f"Bearer {token}"})


@pytest.fixture
def admin(settings: Any) -> RestClient:
    return client_of(settings.ADMIN_API_KEY)


def body(**fields: Any) -> dict[str, Any]:
    return {"title": "Mine", "type": "secret", "mode": "live", "scopes": ["providers:read"], **fields}


def failure(response: Any) -> tuple[int, str]:
    assert response.json()["success"] is False
    return response.status_code, response.json()["error"]["code"]


def test_a_key_is_made_and_its_token_shown_once(admin: RestClient) -> None:
    tenant = make_tenant()
    expires_at = (timezone.now() + timedelta(days=30)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    sent = body(tenantId=tenant.pk, expiresAt=expires_at, allowedNetworks=["127.0.0.1"], rateLimit=5)
    response = admin.send("post", KEYS, sent)
    assert response.status_code == 201
    assert response["Cache-Control"] == "no-store"
    data = response.json()["data"]
    token = data.pop("token")
    assert data == {
        "id": data["id"],
        "title": "Mine",
        "type": "secret",
        "mode": "live",
        "status": "active",
        "redacted": f"{token[:6]}***{token[-3:]}",
        "tenantId": tenant.pk,
        "ownerId": None,
        "service": "",
        "scopes": ["providers:read"],
        "allowedNetworks": ["127.0.0.1/32"],
        "rateLimit": 5,
        "expiresAt": expires_at,
        "lastUsedAt": None,
        "lastUsedFrom": None,
        "createdAt": data["createdAt"],
        "createdBy": "key:ADMIN_API_KEY",
        "updatedAt": data["updatedAt"],
        "revokedAt": None,
        "revokedBy": "",
        "rolledFromId": None,
    }
    own = client_of(token)
    used = own.get("/api/external/auth/me")
    assert used["X-RateLimit-Limit"] == "5"
    assert used.json()["data"]["keyId"] == data["id"]
    for path in (KEYS, f"{KEYS}/{data['id']}"):
        assert token.encode() not in admin.get(path).content
    assert admin.get(f"{KEYS}/{data['id']}").json()["data"] == data


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"expiresAt": "yesterday"}, "expiresAt"),
        ({"expiresAt": "2020-01-01T00:00:00Z"}, "expiresAt"),
        ({"tenant_id": "ten_x"}, "tenant_id"),
        ({"token": "sk_live_mine"}, "token"),
        ({"allowedNetworks": ["x"]}, "allowedNetworks.0"),
        ({"rateLimit": "5"}, "rateLimit"),
        ({"rateLimit": True}, "rateLimit"),
        ({"rateLimit": 0}, "rateLimit"),
        ({"scopes": ["nothing:read"]}, "scopes"),
        ({"type": "publishable", "scopes": []}, "tenantId"),
        ({"title": "x\u0000"}, "title"),
        ({"expiresAt": "9999-12-31T23:59:59-14:00"}, "expiresAt"),
        ({"expiresAt": "9998-12-31T00:00:01Z"}, "expiresAt"),
        ({"expiresAt": "0001-01-01T00:00:00+14:00"}, "expiresAt"),
        ({"expiresAt": "2099-01-01T00:00:00"}, "expiresAt"),
        ({"expiresAt": "2099-01-01"}, "expiresAt"),
        ({"expiresAt": 4102444800}, "expiresAt"),
        ({"expiresAt": "4102444800"}, "expiresAt"),
        ({"expiresAt": 4102444800.5}, "expiresAt"),
    ],
)
def test_bad_input_is_named_in_the_senders_words(admin: RestClient, fields: dict[str, Any], path: str) -> None:
    response = admin.send("post", KEYS, body(**fields))
    assert failure(response) == (400, "VALIDATION_ERROR")
    assert response.json()["error"]["details"]["errors"][0]["path"] == path
    assert not ApiKey.objects.exists()


def test_a_time_is_kept_in_utc_and_can_be_shown(admin: RestClient) -> None:
    made = admin.send("post", KEYS, body(expiresAt="9998-12-30T23:30:00-00:30")).json()["data"]
    assert made["expiresAt"] == "9998-12-31T00:00:00.000Z"
    assert admin.get(f"{KEYS}/{made['id']}").json()["data"]["expiresAt"] == made["expiresAt"]


def test_the_life_of_a_key(admin: RestClient) -> None:
    first = admin.send("post", KEYS, body(scopes=["keys:read", "providers:read"])).json()["data"]
    url = f"{KEYS}/{first['id']}"
    assert client_of(first["token"]).get(KEYS).status_code == 200
    key_upkeep.roll_up_uses()
    assert admin.send("patch", url, {"title": "Other"}).json()["data"]["title"] == "Other"
    assert failure(admin.send("patch", url, {"scopes": ["*"]})) == (400, "VALIDATION_ERROR")
    assert failure(admin.delete(url)) == (409, "CONFLICT")

    rolled = admin.send("post", f"{url}/roll", {"overlapSeconds": 60})
    assert rolled.status_code == 201
    second = rolled.json()["data"]
    assert (second["rolledFromId"], second["replaced"]["id"]) == (first["id"], first["id"])
    assert second["replaced"]["status"] == "ending"
    assert second["replaced"]["lastUsedFrom"] == "127.0.0.1"
    assert second["replaced"]["lastUsedAt"] is not None
    assert client_of(first["token"]).get(KEYS).status_code == client_of(second["token"]).get(KEYS).status_code == 200

    with time_machine.travel(timezone.now() + timedelta(seconds=61)):
        assert failure(client_of(first["token"]).get(KEYS)) == (401, "INVALID_API_KEY")
        shown = admin.get(url).json()["data"]
        assert (shown["status"], shown["revokedBy"]) == ("revoked", "key:ADMIN_API_KEY")
        assert failure(admin.send("post", f"{url}/revoke", {})) == (409, "CONFLICT")
        assert admin.delete(url).json()["data"] == {"id": first["id"], "deleted": True}
        assert failure(admin.get(url)) == (404, "NOT_FOUND")

    soon = admin.send("post", f"{KEYS}/{second['id']}/revoke", {"inSeconds": 3600})
    assert soon.json()["data"]["status"] == "ending"
    assert admin.send("post", f"{KEYS}/{second['id']}/revoke", {}).json()["data"]["status"] == "revoked"
    assert failure(client_of(second["token"]).get(KEYS)) == (401, "INVALID_API_KEY")
    events = AuditEvent.objects.filter(object_type="apikey")  # failures of many tests from one address tell of that
    told = sorted(events.values_list("action", flat=True))
    assert told == sorted(
        [f"api_key.{verb}" for verb in ("created", "updated", "rolled", "created", "deleted", "revoked", "revoked")]
    )
    assert {event.api_key_id for event in events} == {"ADMIN_API_KEY"}


def test_verifying(admin: RestClient) -> None:
    made = make_key(title="Theirs")
    data = admin.send("post", f"{KEYS}/verify", {"token": made.token}).json()["data"]
    assert (data["isValid"], data["problem"], data["key"]["id"]) == (True, "", made.key.pk)
    assert "token" not in data["key"]
    assert "digest" not in str(data)
    keys.revoke(made.key)
    data = admin.send("post", f"{KEYS}/verify", {"token": made.token}).json()["data"]
    assert (data["isValid"], data["key"]["status"]) == (False, "revoked")
    for token in ("", "sk_live_x", "\u00e9", made.token + "x"):
        answer = admin.send("post", f"{KEYS}/verify", {"token": token}).json()["data"]
        assert answer == {"isValid": False, "problem": "The API key is not valid.", "key": None}
    # Else tokens would stand in access logs.
    assert admin.get(f"{KEYS}/verify?token=x").status_code == 400
    assert failure(admin.get(f"{KEYS}/verify")) == (405, "METHOD_NOT_ALLOWED")


def test_filters(admin: RestClient) -> None:
    tenant = make_tenant()
    live = make_key(title="Alpha").key
    test = make_key(mode="test", tenant=tenant).key
    public = make_key(type="publishable", scopes=[], tenant=tenant).key
    revoked, ending, expired = (make_key().key for _ in range(3))
    keys.revoke(revoked)
    keys.revoke(ending, 3600)
    ApiKey.objects.filter(pk=expired.pk).update(expires_at=timezone.now())
    for query, expected in (
        ("search=alph", {live}),
        ("mode=test", {test}),
        ("type=publishable", {public}),
        (f"tenantId={tenant.pk}", {test, public}),
        ("status=revoked", {revoked}),
        ("status=ending", {ending}),
        ("status=expired", {expired}),
        ("status=active", {live, test, public}),
    ):
        found = admin.get(f"{KEYS}?{query}").json()["data"]
        assert {item["id"] for item in found} == {key.pk for key in expected}
        if query.startswith("status="):
            assert {item["status"] for item in found} == {query.partition("=")[2]}
    for query in ("status=gone", "mode=both", "owner=x", "tenantId=a%20b"):
        assert failure(admin.get(f"{KEYS}?{query}")) == (400, "VALIDATION_ERROR")


def test_a_list_costs_three_queries(django_assert_num_queries: Any) -> None:
    """Who asks, the page, the total."""
    token = make_key(scopes=["keys:read"]).token
    for _ in range(5):
        make_key()
    client = client_of(token)
    client.get(KEYS)
    with django_assert_num_queries(3):
        assert client.get(f"{KEYS}?perPage=2").json()["pagination"]["total"] == 6


class TestRights:
    def test_a_foreign_key_is_as_good_as_missing(self) -> None:
        tenant = make_tenant()
        mine = make_key(tenant=tenant, scopes=["*"])
        foreign = [make_key(tenant=make_tenant()).key, make_key().key, make_key(tenant=tenant, mode="test").key]
        client = client_of(mine.token)
        assert [item["id"] for item in client.get(KEYS).json()["data"]] == [mine.key.pk]
        for key in foreign:
            for method, suffix, sent in (
                ("get", "", None),
                ("patch", "", {"title": "x"}),
                ("delete", "", None),
                ("post", "/revoke", {}),
                ("post", "/roll", {}),
            ):
                answer = client.send(method, f"{KEYS}/{key.pk}{suffix}", sent)
                missing = client.send(method, f"{KEYS}/apk_missing{suffix}", sent)
                assert failure(answer) == failure(missing) == (404, "NOT_FOUND")
                told, absent = (response.json()["error"]["message"] for response in (answer, missing))
                assert told.replace(key.pk, "ID") == absent.replace("apk_missing", "ID")
            key.refresh_from_db()
            assert key.revoked_at is None

    def test_nobody_grants_more_than_they_have(self) -> None:
        tenant, other = make_tenant(), make_tenant()
        client = client_of(make_key(tenant=tenant, scopes=["keys:write", "providers:read"]).token)
        made = client.send("post", KEYS, body())
        assert made.json()["data"]["tenantId"] == tenant.pk
        assert failure(client.send("post", KEYS, body(scopes=["*"]))) == (403, "FORBIDDEN")
        assert failure(client.send("post", KEYS, body(scopes=["audit:read"]))) == (403, "FORBIDDEN")
        assert failure(client.send("post", KEYS, body(mode="test"))) == (403, "FORBIDDEN")
        assert failure(client.send("post", KEYS, body(tenantId=other.pk))) == (404, "NOT_FOUND")

    @pytest.mark.parametrize(
        ("bounds", "fields", "path"),
        [
            ({"allowed_networks": ["127.0.0.0/24"]}, {"allowedNetworks": ["127.0.0.0/16"]}, "allowedNetworks"),
            ({"allowed_networks": ["127.0.0.0/24"]}, {"allowedNetworks": ["127.0.0.1", "::1"]}, "allowedNetworks"),
            ({"allowed_networks": ["127.0.0.1"]}, {"allowedNetworks": ["0.0.0.0/0"]}, "allowedNetworks"),
            ({"expires_at": "2099-01-01T00:00:00Z"}, {"expiresAt": "2099-01-01T00:00:00.001Z"}, "expiresAt"),
            ({"expires_at": "2099-01-01T00:00:00Z"}, {"expiresAt": "2099-01-01T00:00:00-01:00"}, "expiresAt"),
            ({"rate_limit": 5}, {"rateLimit": 6}, "rateLimit"),
            ({}, {"rateLimit": 10_000_000}, "rateLimit"),
        ],
    )
    def test_nobody_grants_wider_bounds_than_they_have(
        self, bounds: dict[str, Any], fields: dict[str, Any], path: str
    ) -> None:
        granter = make_key(scopes=["keys:write", "providers:read"], **bounds)
        response = client_of(granter.token).send("post", KEYS, body(**fields))
        assert failure(response) == (403, "FORBIDDEN")
        error = response.json()["error"]
        assert [item["path"] for item in error["details"]["errors"]] == [path]
        assert path in error["message"]
        assert list(ApiKey.objects.all()) == [granter.key]

    @pytest.mark.parametrize("left_out", [{}, {"allowedNetworks": [], "expiresAt": None, "rateLimit": None}])
    def test_a_bound_that_is_left_out_is_the_makers(self, left_out: dict[str, Any]) -> None:
        bounds = {"allowed_networks": ["127.0.0.0/24"], "expires_at": "2099-01-01T00:00:00Z", "rate_limit": 50}
        client = client_of(make_key(scopes=["keys:write", "providers:read"], **bounds).token)
        made = client.send("post", KEYS, body(**left_out)).json()["data"]
        assert (made["allowedNetworks"], made["rateLimit"]) == (["127.0.0.0/24"], 50)
        assert made["expiresAt"] == "2099-01-01T00:00:00.000Z"
        narrower = {"allowedNetworks": ["127.0.0.7"], "expiresAt": "2098-01-01T00:00:00Z", "rateLimit": 1}
        made = client.send("post", KEYS, body(**narrower)).json()["data"]
        assert (made["allowedNetworks"], made["rateLimit"]) == (["127.0.0.7/32"], 1)

    @pytest.mark.parametrize(
        ("bounds", "path"),
        [
            ({"allowed_networks": ["127.0.0.0/24"]}, "allowedNetworks"),
            ({"expires_at": "2099-01-01T00:00:00Z"}, "expiresAt"),
            ({"rate_limit": 50}, "rateLimit"),
        ],
    )
    def test_rolling_is_no_way_to_wider_bounds(self, bounds: dict[str, Any], path: str) -> None:
        scopes = ["keys:write", "providers:read"]
        wide, bound = make_key(scopes=scopes), make_key(scopes=scopes, **bounds)
        response = client_of(bound.token).send("post", f"{KEYS}/{wide.key.pk}/roll", {})
        assert failure(response) == (403, "FORBIDDEN")
        assert [item["path"] for item in response.json()["error"]["details"]["errors"]] == [path]
        assert keys.verify(wide.token).is_valid
        rolled = client_of(bound.token).send("post", f"{KEYS}/{bound.key.pk}/roll", {})
        assert rolled.status_code == 201
        assert rolled.json()["data"][path] == rolled.json()["data"]["replaced"][path]

    def test_a_token_made_from_a_key_grants_no_more_than_the_key(self) -> None:
        granter = make_key(scopes=["keys:write", "providers:read"], rate_limit=5)
        issued = client_of(granter.token).send("post", "/api/external/auth/validate", None).json()["data"]["token"]
        assert failure(client_of(issued).send("post", KEYS, body(rateLimit=6))) == (403, "FORBIDDEN")

    def test_the_installations_own_key_is_bound_by_nothing(self, admin: RestClient) -> None:
        assert admin.send("post", KEYS, body(rateLimit=10_000_000)).status_code == 201

    def test_each_route_needs_its_scope(self) -> None:
        key = make_key().key
        reader, writer = (client_of(make_key(scopes=[scope]).token) for scope in ("keys:read", "keys:write"))
        assert failure(reader.send("post", KEYS, body())) == (403, "FORBIDDEN")
        for suffix in ("/revoke", "/roll"):
            assert failure(reader.send("post", f"{KEYS}/{key.pk}{suffix}", {})) == (403, "FORBIDDEN")
        assert failure(writer.get(KEYS)) == (403, "FORBIDDEN")
        assert failure(writer.send("post", f"{KEYS}/verify", {"token": "x"})) == (403, "FORBIDDEN")

    def test_a_publishable_key_gets_nowhere(self) -> None:
        client = client_of(make_key(type="publishable", scopes=[], tenant=make_tenant()).token)
        for method, path in (("get", "auth/me"), ("post", "auth/validate"), ("get", "api-keys"), ("get", "providers")):
            assert failure(client.send(method, f"/api/external/{path}", None)) == (403, "FORBIDDEN")


@pytest.mark.parametrize("seconds", [-1, 31_622_401, "soon", 1e400, None])
def test_times_out_of_bounds(admin: RestClient, seconds: Any) -> None:
    key = make_key().key
    raw = f'{{"inSeconds": {"1e400" if seconds == 1e400 else json.dumps(seconds)}}}'
    response = admin.post(f"{KEYS}/{key.pk}/revoke", raw, content_type="application/json")
    assert failure(response) == (400, "VALIDATION_ERROR")
    key.refresh_from_db()
    assert key.revoked_at is None
