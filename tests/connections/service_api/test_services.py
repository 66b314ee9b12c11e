"""``/exsvc/api/v1/services``: seed 002's registry over the provider rows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext

from external_apis.models import AuditEvent, ExternalApi
from tests.exsvc import SERVICES, of_tenant, service_body
from tests.factories import make_provider, make_tenant
from tests.rest import error_of, with_key

pytestmark = pytest.mark.django_db

FIELDS = {
    "id", "name", "description", "type", "status", "base_url", "api_version", "tenant_id", "metadata", "created_at",
    "updated_at",
}  # fmt: skip


def test_the_seeds_example_is_registered() -> None:
    tenant = make_tenant()
    client = of_tenant(tenant)
    response = client.send("post", SERVICES, service_body())
    service = response.json()
    assert response.status_code == 201, service
    assert set(service) == FIELDS
    assert response["Location"] == f"{SERVICES}/{service['id']}"
    assert response["Cache-Control"] == "no-store"
    assert service | service_body() == service
    assert (service["status"], service["tenant_id"], service["metadata"]) == ("active", tenant.pk, {})
    assert service["created_at"].endswith("Z")
    assert client.get(response["Location"]).json() == service
    row = ExternalApi.objects.get()
    assert (row.slug, row.auth_type, row.environment, row.is_sandbox) == (
        "payment-gateway",
        "none",
        "production",
        False,
    )
    event = AuditEvent.objects.filter(action="provider.created").get()
    assert (event.object_id, event.tenant_id) == (row.pk, tenant.pk)


def test_the_list_is_paged_and_filtered() -> None:
    tenant = make_tenant()
    client = of_tenant(tenant)
    make_provider(slug="a-global-one", status="deprecated")
    for number, kind in enumerate(("payment", "email", "email")):
        client.send("post", SERVICES, service_body(name=f"Service {number}", type=kind))
    first = client.get(SERVICES).json()["services"][1]
    client.send("patch", f"{SERVICES}/{first['id']}", {"status": "inactive"})
    listed = client.get(SERVICES, {"limit": 2, "offset": 1}).json()
    assert set(listed) == {"services", "total", "limit", "offset"}
    assert [item["name"] for item in listed["services"]] == ["Service 0", "Service 1"]
    assert (listed["total"], listed["limit"], listed["offset"]) == (4, 2, 1)
    assert all(set(item) == FIELDS for item in listed["services"])
    names = {
        query: [item["name"] for item in client.get(f"{SERVICES}?{query}").json()["services"]]
        for query in ("type=email", "status=inactive", "status=active", "name=SERVICE%202", "name=nothing")
    }
    assert names == {
        "type=email": ["Service 1", "Service 2"],
        "status=inactive": ["Service 0"],
        "status=active": ["A-Global-One", "Service 1", "Service 2"],
        "name=SERVICE%202": ["Service 2"],
        "name=nothing": [],
    }


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=1001", "limit=ten", "offset=-1", "offset=99999999999999999999", "status=deprecated",
        "type=none", "page=1", "tenant_id=x", "name__icontains=a", "_connector=OR", "status=active&status=inactive",
        "limit=1_0", "limit=%201", "offset=%2B1", "name=%FF", "name=%ED%A0%80",
    ],
)  # fmt: skip
def test_a_wrong_query_is_named(query: str) -> None:
    response = of_tenant(make_tenant()).get(f"{SERVICES}?{query}")
    assert error_of(response) == (400, "INVALID_REQUEST")
    assert response.json()["error"]["details"]["errors"][0]["path"] == query.partition("=")[0]


def test_put_replaces_and_patch_changes() -> None:
    client = of_tenant(make_tenant())
    url = client.send("post", SERVICES, service_body(metadata={"owner": "ann"}))["Location"]
    changed = client.send("patch", url, {"description": "Cards", "metadata": {"team": 7}, "api_version": None}).json()
    assert changed["description"] == "Cards"
    assert (changed["metadata"], changed["api_version"], changed["type"]) == ({"team": 7}, None, "payment")
    replaced = client.send("put", url, {"name": "Payments", "base_url": "https://pay.example.com/v2"}).json()
    assert {name: replaced[name] for name in FIELDS - {"id", "tenant_id", "created_at", "updated_at"}} == {
        "name": "Payments", "description": "", "type": "other", "status": "active", "metadata": {},
        "base_url": "https://pay.example.com/v2", "api_version": None,
    }  # fmt: skip
    row = ExternalApi.objects.get()
    assert row.slug == "payment-gateway"  # what refers to it goes on doing so
    assert list(AuditEvent.objects.values_list("action", flat=True)[:2]) == ["provider.updated"] * 2
    assert error_of(client.send("put", url, {"name": "Payments"})) == (400, "INVALID_REQUEST")


def test_what_is_deprecated_stays_so() -> None:
    tenant = make_tenant()
    api = make_provider(tenant=tenant, status="deprecated")
    client = of_tenant(tenant)
    shown = client.get(f"{SERVICES}/{api.pk}").json()
    assert shown["status"] == "active"
    body = {name: shown[name] for name in ("name", "base_url", "status", "type")}
    assert client.send("put", f"{SERVICES}/{api.pk}", body).status_code == 200
    api.refresh_from_db()
    assert api.status == "deprecated"


def test_delete_is_soft_and_frees_the_name() -> None:
    client = of_tenant(make_tenant())
    url = client.send("post", SERVICES, service_body())["Location"]
    response = client.delete(url)
    assert (response.status_code, response.json()) == (200, {"id": url.rpartition("/")[2], "deleted": True})
    assert error_of(client.get(url)) == error_of(client.delete(url)) == (404, "SERVICE_NOT_FOUND")
    assert ExternalApi.objects.get().is_deleted
    assert client.send("post", SERVICES, service_body()).status_code == 201


def test_the_message_is_the_seeds() -> None:
    error = of_tenant(make_tenant()).get(f"{SERVICES}/abc123").json()["error"]
    assert error["message"] == "Service with ID 'abc123' not found"


def test_a_name_is_unique_in_its_tenant_alone() -> None:
    first, second = of_tenant(make_tenant()), of_tenant(make_tenant())
    make_provider(slug="payment-gateway", name="Payment Gateway")
    url = first.send("post", SERVICES, service_body())["Location"]
    assert error_of(first.send("post", SERVICES, service_body())) == (409, "SERVICE_ALREADY_EXISTS")
    assert error_of(first.send("post", SERVICES, service_body(name="PAYMENT gateway"))) == (
        409,
        "SERVICE_ALREADY_EXISTS",
    )
    assert second.send("post", SERVICES, service_body()).status_code == 201
    other = first.send("post", SERVICES, service_body(name="Other"))["Location"]
    assert error_of(first.send("patch", other, {"name": "Payment Gateway"})) == (409, "SERVICE_ALREADY_EXISTS")
    assert first.send("patch", url, {"name": "payment gateway"}).status_code == 200  # its own


@pytest.mark.parametrize(
    ("names", "slugs"),
    [
        (["Stripe!", "Stripe?"], ["stripe", "stripe-2"]),
        (["日本", "中国"], ["service", "service-2"]),
        (["x" * 200], ["x" * 90]),
        (["--", "Ünï"], ["service", "uni"]),
    ],
)
def test_a_slug_is_made_of_every_name(names: list[str], slugs: list[str]) -> None:
    client = of_tenant(make_tenant())
    for name in names:
        assert client.send("post", SERVICES, service_body(name=name)).status_code == 201
    assert list(ExternalApi.objects.order_by("id").values_list("slug", flat=True)) == slugs


@pytest.mark.django_db(transaction=True)
def test_of_two_at_once_one_gets_the_name() -> None:
    client_of = of_tenant(make_tenant()).defaults

    def post(_: int) -> int:
        from tests.rest import RestClient

        client = RestClient()
        client.defaults = client_of
        try:
            return int(client.send("post", SERVICES, service_body()).status_code)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(post, range(8))) == [201, *[409] * 7]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"base_url": "http://plain.example.com"}, "base_url"),
        ({"base_url": "ftp://x"}, "base_url"),
        ({"base_url": 5}, "base_url"),
        ({"name": ""}, "name"),
        ({"name": " x"}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"type": "none"}, "type"),
        ({"status": "deprecated"}, "status"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"a": ["\ud800"]}}, "metadata.a.0"),
        ({"id": "ext_api_mine"}, "id"),
        ({"created_at": "2026-01-01T00:00:00Z"}, "created_at"),
        ({"environment": "staging"}, "environment"),
        ({"api_config": {}}, "api_config"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], path: str) -> None:
    client = of_tenant(make_tenant())
    url = client.send("post", SERVICES, service_body(name="There"))["Location"]
    for response in (
        client.send("post", SERVICES, service_body(**change)),
        client.send("put", url, service_body(**change)),
        client.send("patch", url, change),
    ):
        assert error_of(response) == (400, "INVALID_REQUEST")
        assert path in {item["path"] for item in response.json()["error"]["details"]["errors"]}
    assert ExternalApi.objects.count() == 1


def test_another_tenants_service_is_a_missing_one() -> None:
    mine, foreign = make_tenant(), make_tenant()
    url = f"{SERVICES}/{make_provider(tenant=foreign).pk}"
    client = of_tenant(mine)
    missing = f"{SERVICES}/ext_api_{'0' * 26}"

    def said(method: str, path: str, body: Any = None) -> tuple[Any, list[str]]:
        with CaptureQueriesContext(connection) as captured:
            response = client.send(method, path, body)
        text = response.content.decode().replace(path.split("/")[5], "ID")
        return (response.status_code, text), [query["sql"].replace(path.split("/")[5], "ID") for query in captured]

    for method, end, body in (
        ("get", "", None),
        ("put", "", service_body()),
        ("patch", "", {"name": "x"}),
        ("delete", "", None),
        ("get", "/credentials", None),
        ("put", "/credentials", {"credentials": {"access_token": "mine now"}}),
    ):
        there, none = said(method, url + end, body), said(method, missing + end, body)
        # The same answer, after the same queries: not even the time tells.
        assert there == none
        assert there[0][0] == 404
    assert client.get(SERVICES).json()["services"] == []


def test_a_body_names_no_other_tenant() -> None:
    mine, foreign = make_tenant(), make_tenant()
    client = of_tenant(mine)
    assert client.send("post", SERVICES, service_body(tenant_id=mine.pk)).status_code == 201
    answers = [client.send("post", SERVICES, service_body(tenant_id=given)) for given in (foreign.pk, "ten_missing")]
    assert {(response.status_code, response.content) for response in answers} == {(403, answers[0].content)}
    url = f"{SERVICES}/{ExternalApi.objects.get().pk}"
    assert error_of(client.send("patch", url, {"tenant_id": foreign.pk})) == (403, "FORBIDDEN")
    assert client.send("patch", url, {"tenant_id": mine.pk}).status_code == 200


def test_services_of_the_installation_are_read_and_not_changed() -> None:
    api = make_provider()
    client, url = of_tenant(make_tenant()), f"{SERVICES}/{api.pk}"
    assert client.get(url).json()["tenant_id"] is None
    for response in (
        client.send("put", url, service_body()),
        client.send("patch", url, {"name": "Mine"}),
        client.delete(url),
    ):
        assert error_of(response) == (403, "FORBIDDEN")


def test_operators_register_for_any_tenant() -> None:
    tenant = make_tenant()
    client = with_key()
    assert client.send("post", SERVICES, service_body(tenant_id=tenant.pk)).json()["tenant_id"] == tenant.pk
    assert client.send("post", SERVICES, service_body()).json()["tenant_id"] is None
    response = client.send("post", SERVICES, service_body(tenant_id="ten_missing"))
    assert error_of(response) == (400, "INVALID_REQUEST")
    assert client.get(SERVICES).json()["total"] == 2


def test_a_test_key_lives_in_the_sandbox() -> None:
    tenant = make_tenant()
    live, test = of_tenant(tenant), of_tenant(tenant, mode="test")
    url = test.send("post", SERVICES, service_body())["Location"]
    assert ExternalApi.objects.get().is_sandbox
    assert error_of(live.get(url)) == (404, "SERVICE_NOT_FOUND")
    assert live.send("post", SERVICES, service_body()).status_code == 201
    assert [len(client.get(SERVICES).json()["services"]) for client in (live, test)] == [1, 1]


def test_queries_are_few_and_do_not_grow(django_assert_max_num_queries: Any) -> None:
    tenant = make_tenant()
    client = of_tenant(tenant)
    for number in range(12):
        make_provider(tenant=tenant, slug=f"many-{number}")
    with django_assert_max_num_queries(3):  # the key, the page, the total
        assert len(client.get(SERVICES).json()["services"]) == 12
    url = f"{SERVICES}/{make_provider(tenant=tenant).pk}"
    with django_assert_max_num_queries(2):
        assert client.get(url).status_code == 200
