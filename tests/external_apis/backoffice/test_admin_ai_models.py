"""The admin's pages of AI models: the same rules, rows and events as over REST."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from external_apis.backoffice.ai_usage_rollup import roll_up
from external_apis.backoffice.models import AiCall, AiModel
from external_apis.models import AuditEvent
from external_apis.scopes import permissions_of
from tests.ai_models import make_ai_model
from tests.factories import make_tenant, make_user

pytestmark = pytest.mark.django_db
MODELS = "/admin/backoffice/aimodel"


def signed_in(*scopes: str, **fields: Any) -> Client:
    client = Client()
    client.force_login(make_user(permissions=sorted(permissions_of(scopes)), **fields))
    return client


@pytest.fixture
def client() -> Client:
    return signed_in("models:read", "models:write")


def places(*models: AiModel) -> dict[str, int]:
    return {model.pk: place for place, model in enumerate(models)}


def test_a_model_is_made_changed_and_deleted(client: Client) -> None:
    form = {"name": "gpt-4-turbo", "tier": "premium", "enabled": "on", "connection": "openai/main"}
    assert client.post(f"{MODELS}/add/", form).status_code == 302
    model = AiModel.objects.get()
    assert (model.label, model.order, model.connection) == ("gpt-4-turbo", 0, "openai/main")
    assert client.post(f"{MODELS}/{model.pk}/change/", {**form, "label": "Turbo", "enabled": ""}).status_code == 302
    model.refresh_from_db()
    assert (model.label, model.enabled, model.tier) == ("Turbo", False, "premium")
    wrong = client.post(f"{MODELS}/{model.pk}/change/", {**form, "connection": "a/b/c"})
    assert "String should match pattern" in wrong.content.decode()
    assert "exists already" in client.post(f"{MODELS}/add/", form).content.decode()
    assert client.post(f"{MODELS}/{model.pk}/delete/", {"post": "yes"}).status_code == 302
    told = AuditEvent.objects.filter(object_type="aimodel").order_by("pk").values_list("action", flat=True)
    assert list(told) == ["ai_model.created", "ai_model.updated", "ai_model.deleted"]


def test_the_page_of_the_order(client: Client) -> None:
    first, second, third = (make_ai_model() for _ in range(3))
    foreign = make_ai_model(make_tenant())
    page = f"{MODELS}/{first.pk}/order/"
    shown = client.get(page).content.decode()
    assert all(model.label in shown for model in (first, second, third))
    assert foreign.label not in shown
    assert client.post(page, places(third, first, second)).status_code == 302
    assert list(AiModel.objects.filter(tenant=None)) == [third, first, second]
    # Equal places leave two as they were.
    assert client.post(page, {third.pk: 5, first.pk: 1, second.pk: 1}).status_code == 302
    assert list(AiModel.objects.filter(tenant=None)) == [first, second, third]
    for wrong in (places(first), {**places(first, second, third), first.pk: "x"}, {}):
        assert client.post(page, wrong).status_code == 200
    assert list(AiModel.objects.filter(tenant=None)) == [first, second, third]
    assert AuditEvent.objects.filter(action="ai_model.reordered").count() == 2


def test_more_models_than_a_page_takes_are_ordered_over_rest(client: Client) -> None:
    """A form of more than a thousand fields would be refused when it is sent."""
    rows = AiModel.objects.bulk_create(AiModel(name=f"m{place}", label="M", order=place) for place in range(501))
    page = f"{MODELS}/{rows[0].pk}/order/"
    for answer in (client.get(page, follow=True), client.post(page, places(*rows[::-1]), follow=True)):
        assert [status for _, status in answer.redirect_chain] == [302]
        assert "POST /api/external/models/reorder" in answer.content.decode()
    rows[-1].delete()
    assert client.get(page).status_code == 200
    assert AiModel.objects.first() == rows[0]


def test_what_a_model_was_used_for(client: Client) -> None:
    model = make_ai_model()
    for _ in range(3):
        AiCall.objects.create(model_id=model.pk, connection_id="conn_1", total_tokens=1111)
    AiCall.objects.create(model_id="aim_0", connection_id="conn_1", total_tokens=5)
    roll_up()
    assert "3 calls with 3333 tokens" in client.get(f"{MODELS}/{model.pk}/usage/").content.decode()


def test_the_group_decides(client: Client) -> None:
    model = make_ai_model()
    reader, nobody = signed_in("models:read"), signed_in("affiliates:read")
    assert reader.get(f"{MODELS}/{model.pk}/change/").status_code == 200
    assert reader.get(f"{MODELS}/{model.pk}/usage/").status_code == 200
    assert reader.get(f"{MODELS}/{model.pk}/order/").status_code == 404
    assert reader.post(f"{MODELS}/{model.pk}/order/", places(model)).status_code == 404
    assert reader.post(f"{MODELS}/add/", {"name": "new"}).status_code == 403
    assert nobody.get(f"{MODELS}/").status_code == 403
    assert nobody.get(f"{MODELS}/{model.pk}/usage/").status_code in (403, 404)


def test_a_tenants_staff_have_its_own() -> None:
    tenant = make_tenant()
    own, foreign, common = make_ai_model(tenant), make_ai_model(make_tenant()), make_ai_model()
    client = signed_in("models:read", "models:write", tenant=tenant)
    shown = client.get(f"{MODELS}/").content.decode()
    assert (own.label in shown, foreign.label in shown, common.label in shown) == (True, False, False)
    for model in (foreign, common):
        for page in ("change", "usage", "order", "delete"):
            assert client.get(f"{MODELS}/{model.pk}/{page}/").status_code in (302, 404)
        assert client.post(f"{MODELS}/{model.pk}/order/", places(model)).status_code == 404
    assert client.post(f"{MODELS}/add/", {"name": "new", "tenant": foreign.tenant_id}).status_code == 302
    assert AiModel.objects.get(name="new").tenant == tenant


def test_a_list_costs_the_same_for_one_and_thirty(client: Client) -> None:
    tenant, counts = make_tenant(), []
    for more in (1, 29):
        for _ in range(more):
            make_ai_model(tenant)
        client.get(f"{MODELS}/")
        with CaptureQueriesContext(connection) as queries:
            client.get(f"{MODELS}/")
        counts.append(len(queries))
    assert counts[0] == counts[1]
