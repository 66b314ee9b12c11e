"""``/api/external/tenants`` and ``/partners``: neither has a sandbox, so a test key changes none of them."""

from __future__ import annotations

from typing import Any

import pytest

from external_apis import tenants
from external_apis.models import AuditEvent, Partner, Tenant
from tests.envelope import EXTERNAL, client_of, data_of, failure_of
from tests.factories import make_key, make_tenant

pytestmark = pytest.mark.django_db
TENANTS, PARTNERS = f"{EXTERNAL}/tenants", f"{EXTERNAL}/partners"


@pytest.fixture
def home() -> Tenant:
    return make_tenant("home")


@pytest.fixture
def partner(home: Tenant) -> Partner:
    return tenants.create_partner({"name": "Ann", "slug": "ann", "tenant_id": home.pk})


@pytest.mark.parametrize("is_bound", [False, True])
def test_a_test_key_changes_nothing_of_what_is_live(home: Tenant, partner: Partner, *, is_bound: bool) -> None:
    client = client_of(make_key(mode="test", tenant=home if is_bound else None).token)
    before = _stored()
    named = {"name": "New", "slug": "new"}
    requests: list[tuple[str, str, Any]] = [
        ("post", TENANTS, named),
        ("patch", f"{TENANTS}/{home.pk}", {"isActive": False}),
        ("delete", f"{TENANTS}/{home.pk}", None),
        ("post", PARTNERS, named),
        ("patch", f"{PARTNERS}/{partner.pk}", {"name": "Other"}),
        ("delete", f"{PARTNERS}/{partner.pk}", None),
        ("post", f"{EXTERNAL}/system/cache/clear", None),
    ]
    for method, path, body in requests:
        assert failure_of(client.send(method, path, body)) == (403, "FORBIDDEN"), (method, path)
    assert _stored() == before
    assert not AuditEvent.objects.exclude(object_type__in=("apikey", "partner")).exists()


def test_a_test_key_sees_its_own_tenant_at_most(home: Tenant, partner: Partner) -> None:
    make_tenant("elsewhere")
    bound, unbound = (client_of(make_key(mode="test", tenant=tenant).token) for tenant in (home, None))
    assert [item["id"] for item in data_of(bound.get(TENANTS))] == [home.pk]
    assert data_of(bound.get(f"{TENANTS}/{home.pk}"))["slug"] == "home"
    assert data_of(unbound.get(TENANTS)) == []
    assert failure_of(unbound.get(f"{TENANTS}/{home.pk}")) == (404, "NOT_FOUND")
    for client in (bound, unbound):
        assert data_of(client.get(PARTNERS)) == []
        assert failure_of(client.get(f"{PARTNERS}/{partner.pk}")) == (404, "NOT_FOUND")


def test_a_live_key_of_a_tenant_has_its_partners(home: Tenant, partner: Partner) -> None:
    client = client_of(make_key(tenant=home).token)
    assert data_of(client.send("patch", f"{PARTNERS}/{partner.pk}", {"name": "Other"}))["name"] == "Other"
    assert failure_of(client.send("patch", f"{TENANTS}/{home.pk}", {"name": "Other"})) == (403, "FORBIDDEN")


def _stored() -> list[Any]:
    return [list(model._default_manager.order_by("pk").values()) for model in (Tenant, Partner)]
