"""Who may use the management REST: the key, staff sessions with CSRF, permissions, and tenants apart."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from external_apis.models import ExternalApi
from tests.factories import MANAGER, PASSWORD, make_connection, make_provider, make_tenant, make_user, provider_body
from tests.rest import PROVIDERS, RestClient, connections_of, error_of, signed_in, with_key

pytestmark = pytest.mark.django_db


def test_nobody_is_told_how_to_authenticate() -> None:
    response = RestClient().get(PROVIDERS)
    assert error_of(response) == (401, "NOT_AUTHENTICATED")
    assert response["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("token", ["", "wrong", "wröng", "{key}x", "{key} {key}"])
def test_a_wrong_key_is_refused(settings: Any, token: str) -> None:
    header = f"Bearer {token.format(key=settings.ADMIN_API_KEY)}"
    assert error_of(RestClient(headers={"Authorization": header}).get(PROVIDERS)) == (401, "INVALID_API_KEY")


def test_without_a_configured_key_none_works(settings: Any) -> None:
    settings.ADMIN_API_KEY = ""
    for header in ("Bearer ", "Bearer", "Bearer sk_live_x"):
        response = RestClient(headers={"Authorization": header}).get(PROVIDERS)
        assert error_of(response) == (503, "API_KEY_NOT_CONFIGURED")


def test_a_key_in_the_query_is_no_key(settings: Any) -> None:
    for name in ("api_key", "token", "access_token"):
        assert RestClient().get(f"{PROVIDERS}?{name}={settings.ADMIN_API_KEY}").status_code == 401


def test_a_wrong_key_is_not_saved_by_a_session() -> None:
    client = signed_in(make_user(is_superuser=True))
    assert client.get(PROVIDERS, headers={"Authorization": "Bearer wrong"}).status_code == 401


def test_a_session_needs_its_csrf_token_to_change_anything() -> None:
    user = make_user(is_superuser=True)
    client = RestClient()
    client.force_login(user)
    assert client.get(PROVIDERS).status_code == 200
    assert error_of(client.send("post", PROVIDERS, provider_body())) == (403, "FORBIDDEN")
    assert not ExternalApi.objects.exists()
    response = signed_in(user).send("post", PROVIDERS, provider_body())
    assert response.status_code == 201
    assert response.json()["created_by"] == f"user:{user.username}"


def test_staff_of_an_inactive_tenant_are_refused() -> None:
    tenant = make_tenant()
    staff = signed_in(make_user("acmes", tenant=tenant, permissions=MANAGER))
    operator = signed_in(make_user(tenant=tenant, is_superuser=True))
    assert staff.get(PROVIDERS).status_code == 200
    tenant.is_active = False
    tenant.save()
    assert error_of(staff.get(PROVIDERS)) == (401, "NOT_AUTHENTICATED")
    assert staff.get("/admin/").status_code == 302
    assert Client().post("/admin/login/", {"username": "acmes", "password": PASSWORD}).status_code == 200, "no redirect"
    assert operator.get(PROVIDERS).status_code == 200


def test_users_who_are_not_staff_or_not_active_are_refused() -> None:
    assert error_of(signed_in(make_user(is_staff=False, permissions=MANAGER)).get(PROVIDERS)) == (403, "FORBIDDEN")
    assert signed_in(make_user(is_active=False, permissions=MANAGER)).get(PROVIDERS).status_code == 401


_PROVIDER, _CONNECTION = "external_apis.{}_externalapi", "connections.{}_externalapiconnection"
_MATRIX = [
    ("get", PROVIDERS, None, _PROVIDER.format("view"), 200),
    ("post", PROVIDERS, provider_body(slug="fresh"), _PROVIDER.format("add"), 201),
    ("get", "{api}", None, _PROVIDER.format("view"), 200),
    ("patch", "{api}", {"name": "New"}, _PROVIDER.format("change"), 200),
    ("delete", "{api}", None, _PROVIDER.format("delete"), 204),
    ("get", "{api}/connections", None, _CONNECTION.format("view"), 200),
    ("post", "{api}/connections", {"connection_name": "New"}, _CONNECTION.format("add"), 201),
    ("get", "{api}/connections/{row}", None, _CONNECTION.format("view"), 200),
    ("patch", "{api}/connections/{row}", {"note": "New"}, _CONNECTION.format("change"), 200),
    ("post", "{api}/connections/{row}/test", None, _CONNECTION.format("change"), 200),
    ("delete", "{api}/connections/{row}", None, _CONNECTION.format("delete"), 204),
]


@pytest.mark.parametrize(("method", "path", "body", "permission", "status"), _MATRIX)
def test_each_route_needs_its_own_permission(method: str, path: str, body: Any, permission: str, status: int) -> None:
    row = make_connection()
    url = path.format(api=f"{PROVIDERS}/{row.external_api_id}", row=row.pk)
    others = [name for name in MANAGER if name != permission]
    assert error_of(signed_in(make_user(permissions=others)).send(method, url, body)) == (403, "FORBIDDEN")
    assert signed_in(make_user(permissions=[permission])).send(method, url, body).status_code == status


class TestTenants:
    """An owner, a teammate of the same tenant, and an outsider with the same rights in another one."""

    @pytest.fixture
    def owner(self) -> Any:
        return make_user("owner", tenant=make_tenant("home"), permissions=MANAGER)

    @pytest.fixture
    def teammate(self, owner: Any) -> Any:
        return make_user("teammate", tenant=owner.external_apis_account.tenant, permissions=MANAGER)

    @pytest.fixture
    def outsider(self) -> Any:
        return make_user("outsider", tenant=make_tenant("elsewhere"), permissions=MANAGER)

    @pytest.fixture
    def api(self, owner: Any) -> Any:
        answer = signed_in(owner).send("post", PROVIDERS, provider_body(slug="ours")).json()
        return ExternalApi.objects.get(pk=answer["id"])

    def test_what_a_bound_user_makes_is_the_tenants(self, owner: Any, api: ExternalApi) -> None:
        assert api.tenant_id == owner.external_apis_account.tenant_id

    def test_a_foreign_provider_is_as_good_as_missing(
        self, owner: Any, teammate: Any, outsider: Any, api: ExternalApi
    ) -> None:
        url, missing = f"{PROVIDERS}/{api.pk}", f"{PROVIDERS}/ext_api_missing"
        for user in (owner, teammate):
            assert signed_in(user).get(url).status_code == 200
            assert [item["slug"] for item in signed_in(user).get(PROVIDERS).json()] == ["ours"]
        client = signed_in(outsider)
        assert client.get(PROVIDERS).json() == []
        assert client.get(PROVIDERS)["X-Total-Count"] == "0"
        for method, body in (("get", None), ("patch", {"name": "x"}), ("delete", None)):
            foreign, absent = client.send(method, url, body), client.send(method, missing, body)
            assert foreign.status_code == absent.status_code == 404
            assert foreign.content.replace(api.pk.encode(), b"ID") == absent.content.replace(b"ext_api_missing", b"ID")
        assert client.get(f"{PROVIDERS}/ours").status_code == 404
        assert client.send("post", f"{url}/connections", {"connection_name": "x"}).status_code == 404
        assert not ExternalApi.objects.get(pk=api.pk).is_deleted

    def test_a_foreign_connection_is_as_good_as_missing(self, owner: Any, teammate: Any, outsider: Any) -> None:
        shared = make_provider(slug="shared")
        row = make_connection(shared, tenant=owner.external_apis_account.tenant)
        url, missing = f"{connections_of(shared)}/{row.pk}", f"{connections_of(shared)}/conn_missing"
        assert signed_in(owner).get(url).status_code == signed_in(teammate).get(url).status_code == 200
        client = signed_in(outsider)
        assert client.get(connections_of(shared)).json() == []
        for method, suffix, body in (
            ("get", "", None),
            ("patch", "", {"note": "x"}),
            ("delete", "", None),
            ("post", "/test", None),
        ):
            foreign, absent = client.send(method, url + suffix, body), client.send(method, missing + suffix, body)
            assert foreign.status_code == absent.status_code == 404
            assert foreign.content.replace(row.pk.encode(), b"ID") == absent.content.replace(b"conn_missing", b"ID")

    def test_a_global_connection_is_not_a_tenants(self, owner: Any) -> None:
        row = make_connection(make_provider())
        assert signed_in(owner).get(connections_of(row.external_api)).json() == []
        assert signed_in(owner).get(f"{connections_of(row.external_api)}/{row.pk}").status_code == 404

    def test_a_global_provider_may_be_used_but_not_changed(self, owner: Any) -> None:
        api = make_provider(slug="global", api_config={"api_key": {"key": "operators-own-key-000000000001"}})
        client, url = signed_in(owner), f"{PROVIDERS}/{api.pk}"
        shown = client.get(url)
        assert shown.status_code == 200
        # Not even facts about the operators' secrets.
        assert b"key_encrypted" not in shown.content
        assert error_of(client.send("patch", url, {"name": "x"})) == (403, "FORBIDDEN")
        assert error_of(client.delete(url)) == (403, "FORBIDDEN")
        made = client.send("post", f"{url}/connections", {"connection_name": "Ours"})
        assert made.json()["sales_channel_id"] == owner.external_apis_account.tenant_id

    def test_nobody_makes_rows_for_another_tenant(self, owner: Any, outsider: Any) -> None:
        other = outsider.external_apis_account.tenant_id
        client = signed_in(owner)
        body = provider_body(sales_channel_id=other)
        assert error_of(client.send("post", PROVIDERS, body)) == (404, "NOT_FOUND")
        api = make_provider()
        body = {"connection_name": "x", "sales_channel_id": other}
        assert error_of(client.send("post", connections_of(api), body)) == (404, "NOT_FOUND")
        body = {"connection_name": "x", "owner_id": outsider.external_apis_account.pk}
        assert error_of(client.send("post", connections_of(api), body)) == (404, "NOT_FOUND")

    def test_the_key_sees_every_tenant(self, api: ExternalApi) -> None:
        assert with_key().get(f"{PROVIDERS}/{api.pk}").json()["sales_channel_id"] == api.tenant_id
