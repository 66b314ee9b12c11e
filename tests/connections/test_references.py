"""Which connection a reference names, for whom, and what an inactive tenant may still do."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext

from connections import lookup, services
from external_apis import providers
from external_apis.errors import ApiManagerError, ConnectionInactive, NotFound
from external_apis.models import Tenant
from external_apis.tenancy import Scope
from tests.factories import make_connection, make_partner, make_provider, make_tenant, make_user

pytestmark = pytest.mark.django_db


def make_inactive(tenant: Tenant) -> None:
    tenant.is_active = False
    tenant.save()


def test_an_id_reaches_no_further_than_a_slug_would() -> None:
    acme, other = make_tenant(), make_tenant()
    api = make_provider()
    row, everybodys = make_connection(api, tenant=acme), make_connection(api)
    for bounds in ({}, {"tenant": acme.pk}, {"tenant": acme.pk, "environment": "production"}):
        assert services.get_connection(row.pk, **bounds).id == row.pk
    assert services.get_connection(everybodys.pk, tenant=other.pk).id == everybodys.pk
    partner = make_partner()
    for bounds in (
        {"tenant": other.pk},
        {"tenant": acme.pk, "environment": "staging"},
        {"environment": "production"},
        {"partner": partner.pk},
        {"user": "user_none"},
    ):
        with pytest.raises(NotFound, match=f"^Connection {row.pk} not found$"):
            services.get_connection(row.pk, **bounds)
        with pytest.raises(NotFound, match=f"^Connection {row.pk} not found$"):
            services.get_api_client(row.pk, **bounds)


def test_a_users_own_needs_the_user() -> None:
    acme = make_tenant()
    account = make_user(tenant=acme).external_apis_account
    row = make_connection(tenant=acme, user_id=account.pk)
    with pytest.raises(NotFound):
        services.get_connection(row.pk, tenant=acme.pk)
    assert services.get_connection(row.pk, tenant=acme.pk, user=account.pk).id == row.pk


@pytest.mark.parametrize("text", ["a\0b", "conn_\0b", "conn_\ud800", "ext_api_\0", "x/\0", "\udfff/x"])
def test_text_that_no_row_can_hold_names_nothing(text: str) -> None:
    for call in (services.get_connection, services.get_api_client, services.get_api_config, providers.resolve,
                 providers.find, providers.find_by_id_or_slug):  # fmt: skip
        with pytest.raises(NotFound) as caught:
            call(text)
        caught.value.message.encode()
    api = make_provider()
    row = make_connection(api)
    for name in ("tenant", "partner", "user", "environment"):
        for reference in (api.slug, row.pk):
            with pytest.raises(NotFound):
                services.get_connection(reference, **{name: text})


def test_the_row_with_more_matches_goes_first() -> None:
    acme, partner = make_tenant(), make_partner()
    first = make_provider(slug="both", partner=partner)
    second = make_provider(slug="both", partner=partner, tenant=acme)
    third = make_provider(slug="twice", partner=partner, tenant=acme)
    fourth = make_provider(slug="twice", partner=partner)
    bounds: Any = {"tenant": acme.pk, "partner": partner.pk}
    assert providers.resolve("both", **bounds) == second
    assert providers.resolve("twice", **bounds) == third
    assert providers.resolve("both", partner=partner.pk) == first
    assert [step.api_id for step in providers.explain("twice", **bounds).steps] == [third.pk, fourth.pk]
    api = make_provider()
    rows = [make_connection(api, slug="x", **fields) for fields in ({"partner_id": partner.pk},
            {"partner_id": partner.pk, "tenant": acme}, {"tenant": acme}, {})]  # fmt: skip
    assert services.get_connection(api.slug, **bounds).id == rows[1].pk
    assert services.get_connection(api.slug, partner=partner.pk).id == rows[0].pk


class TestInactiveTenants:
    """They keep their rows, and nobody can use them."""

    def test_their_connections_are_refused(self) -> None:
        tenant = make_tenant("acme")
        api = make_provider(slug="own", tenant=tenant)
        row = make_connection(api)
        of_global = make_connection(tenant=tenant)
        make_inactive(tenant)
        for reference in (row.pk, of_global.pk, f"{of_global.external_api.slug}/default"):
            with pytest.raises(ConnectionInactive, match=r"^Tenant acme is inactive\.$"):
                services.get_connection(reference, tenant=tenant.pk)
        with pytest.raises(ConnectionInactive):
            services.get_connection(row.pk)
        outcome = services.test_connection(lookup.find(row.pk))
        assert (outcome.is_ok, outcome.message) == (False, "Tenant acme is inactive.")

    def test_their_providers_are_refused_and_the_explanation_says_why(self) -> None:
        tenant = make_tenant("acme")
        api = make_provider(slug="own", tenant=tenant)
        make_inactive(tenant)
        with pytest.raises(NotFound):
            providers.resolve("own", tenant=tenant.pk)
        assert [step.reason for step in providers.explain("own", tenant=tenant.pk).steps] == ["its tenant is inactive"]
        with pytest.raises(ConnectionInactive, match=r"^Tenant acme is inactive\.$"):
            services.get_api_config(api.pk)

    def test_it_costs_no_query(self) -> None:
        tenant = make_tenant()
        row = make_connection(make_provider(tenant=tenant))
        for reference, count in ((row.pk, 1), (row.external_api.slug, 2)):
            with CaptureQueriesContext(database) as captured:
                services.get_connection(reference, tenant=tenant.pk)
            assert len(captured) == count
        with CaptureQueriesContext(database) as captured:
            services.get_api_config(row.external_api_id)
        assert len(captured) == 1


def test_a_scope_reads_the_configuration_of_its_own_slug() -> None:
    tenant = make_tenant()
    api = make_provider(slug="own", tenant=tenant)
    assert services.get_api_config("own", Scope(tenant.pk)).api == api


@pytest.mark.parametrize("arguments", [{"tenant": 5}, {"user": True}])
def test_ids_of_other_types_name_nothing(arguments: Any) -> None:
    with pytest.raises(ApiManagerError):
        services.get_connection(make_connection().pk, **arguments)
