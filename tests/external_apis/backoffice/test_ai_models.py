"""``/api/external/models``: what may be stored, who sees it, and an order that is always a whole one."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from external_apis.backoffice import ai_models
from external_apis.backoffice.models import AiModel
from external_apis.errors import InvalidInput
from external_apis.models import AuditEvent, Tenant
from external_apis.scopes import permissions_of
from external_apis.tenancy import Scope
from tests.envelope import EXTERNAL, checked, client_of, data_of, failure_of, named_by
from tests.factories import make_key, make_tenant
from tests.rest import RestClient

pytestmark = pytest.mark.django_db
MODELS = f"{EXTERNAL}/models"
SEED = {"name": "gpt-4-turbo", "label": "GPT-4 Turbo", "tier": "premium", "supportsMedia": True}


@pytest.fixture
def client() -> RestClient:
    return client_of(make_key().token)


def make_models(count: int, tenant: Tenant | None = None) -> list[str]:
    scope = Scope(None if tenant is None else tenant.pk)
    return [ai_models.create({"name": f"model-{number}"}, scope).pk for number in range(count)]


def in_order(tenant: Tenant | None = None) -> list[str]:
    return list(AiModel.objects.filter(tenant=tenant).values_list("pk", flat=True))


def test_the_seeds_model(client: RestClient) -> None:
    made = data_of(client.send("post", MODELS, SEED), 201)
    assert made["id"].startswith("aim_")
    assert {name: made[name] for name in SEED} == SEED
    assert (made["order"], made["enabled"], made["provider"], made["connection"]) == (0, True, "", "")
    one = f"{MODELS}/{made['id']}"
    assert data_of(client.get(one)) == made
    changed = data_of(client.send("patch", one, {"label": "Turbo", "enabled": False, "connection": "openai/main"}))
    assert changed == {
        **made, "label": "Turbo", "enabled": False, "connection": "openai/main", "updatedAt": changed["updatedAt"]
    }  # fmt: skip
    assert data_of(client.send("delete", one)) == {"id": made["id"], "deleted": True}
    assert failure_of(client.get(one)) == (404, "NOT_FOUND")
    assert failure_of(client.send("delete", one)) == (404, "NOT_FOUND")
    told = AuditEvent.objects.filter(object_type="aimodel").order_by("pk").values_list("action", flat=True)
    assert list(told) == ["ai_model.created", "ai_model.updated", "ai_model.deleted"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": " a"}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"name": "a", "supportsMedia": "yes"}, "supportsMedia"),
        ({"name": "a", "supports_media": True}, "supports_media"),
        ({"name": "a", "tier": "t" * 51}, "tier"),
        ({"name": "a", "order": 3}, "order"),
        ({"name": "a", "connection": "../conn_1"}, "connection"),
        ({"name": "a", "connection": "a/b/c"}, "connection"),
        ({"name": "a", "provider": "https://x"}, "provider"),
    ],
)
def test_what_is_refused(client: RestClient, body: dict[str, Any], field: str) -> None:
    answer = client.send("post", MODELS, body)
    assert failure_of(answer) == (400, "VALIDATION_ERROR")
    assert named_by(answer) == [field]
    assert not AiModel.objects.exists()


def test_a_name_is_taken_once_for_each_tenant(client: RestClient) -> None:
    tenant = make_tenant()
    data_of(client.send("post", MODELS, SEED), 201)
    assert failure_of(client.send("post", MODELS, SEED)) == (409, "CONFLICT")
    theirs = data_of(client.send("post", MODELS, {**SEED, "tenantId": tenant.pk}), 201)
    assert (theirs["tenantId"], theirs["order"]) == (tenant.pk, 0)
    other = data_of(client.send("post", MODELS, {"name": "other"}), 201)
    assert (other["label"], other["order"]) == ("other", 1)
    answer = client.send("patch", f"{MODELS}/{other['id']}", {"name": SEED["name"]})
    assert failure_of(answer) == (409, "CONFLICT")


def test_tenants_see_and_change_their_own(client: RestClient) -> None:
    mine, other = make_tenant(), make_tenant()
    own, foreign, common = (make_models(1, tenant)[0] for tenant in (mine, other, None))
    bound = client_of(make_key(tenant=mine).token)
    assert [item["id"] for item in data_of(bound.get(MODELS))] == [own]
    for model_id in (foreign, common, "aim_0", "a%20%F0%9F%98%80"):
        for method, body in (("get", None), ("patch", {"label": "L"}), ("delete", None)):
            assert failure_of(bound.send(method, f"{MODELS}/{model_id}", body)) == (404, "NOT_FOUND")
    assert failure_of(bound.send("post", MODELS, {**SEED, "tenantId": other.pk})) == (404, "NOT_FOUND")
    assert data_of(bound.send("post", MODELS, SEED), 201)["tenantId"] == mine.pk
    assert {item["id"] for item in data_of(client.get(MODELS))} >= {own, foreign, common}
    assert [item["id"] for item in data_of(client.get(f"{MODELS}?tenantId={other.pk}"))] == [foreign]


def test_a_test_key_has_none() -> None:
    (model_id,) = make_models(1)
    client = client_of(make_key(mode="test").token)
    assert data_of(client.get(MODELS)) == []
    assert failure_of(client.get(f"{MODELS}/{model_id}")) == (404, "NOT_FOUND")
    for method, path, body in (
        ("post", MODELS, SEED),
        ("patch", f"{MODELS}/{model_id}", {"label": "L"}),
        ("delete", f"{MODELS}/{model_id}", None),
        ("post", f"{MODELS}/reorder", {"ids": [model_id]}),
    ):
        assert failure_of(client.send(method, path, body)) == (403, "FORBIDDEN")


def test_scopes(client: RestClient) -> None:
    (model_id,) = make_models(1)
    reader, writer = (client_of(make_key(scopes=[scope]).token) for scope in ("models:read", "models:write"))
    assert data_of(reader.get(MODELS))
    assert failure_of(writer.get(MODELS)) == (403, "FORBIDDEN")
    assert failure_of(reader.send("post", MODELS, SEED)) == (403, "FORBIDDEN")
    assert failure_of(reader.send("post", f"{MODELS}/reorder", {"ids": [model_id]})) == (403, "FORBIDDEN")
    assert data_of(writer.send("post", MODELS, SEED), 201)
    assert permissions_of(["models:read"]) == {"backoffice.view_aimodel"}


def test_a_list_is_searched_filtered_and_paged(client: RestClient) -> None:
    ids = make_models(5)
    ai_models.update(ai_models.find(ids[1]), {"enabled": False, "label": "Groß"})
    page = checked(client.get(f"{MODELS}?page=2&perPage=2"))
    assert [item["id"] for item in page["data"]] == ids[2:4]
    assert page["pagination"]["total"] == 5
    assert [item["id"] for item in data_of(client.get(f"{MODELS}?search=gro"))] == [ids[1]]
    assert [item["id"] for item in data_of(client.get(f"{MODELS}?search=MODEL-3"))] == [ids[3]]
    assert [item["id"] for item in data_of(client.get(f"{MODELS}?status=disabled"))] == [ids[1]]
    assert len(data_of(client.get(f"{MODELS}?status=enabled"))) == 4
    assert failure_of(client.get(f"{MODELS}?status=on")) == (400, "VALIDATION_ERROR")


def test_a_list_costs_the_same_for_one_and_thirty(client: RestClient) -> None:
    counts = []
    for more in (1, 29):
        make_models(more) if more == 1 else [ai_models.create({"name": f"more-{n}"}) for n in range(more)]
        client.get(MODELS)
        with CaptureQueriesContext(
            connection,
        ) as queries:
            data_of(client.get(f"{MODELS}?perPage=50"))
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 3


# --- order ---


def test_reordering(client: RestClient) -> None:
    ids = make_models(4)
    wanted = [ids[2], ids[0], ids[3], ids[1]]
    assert data_of(client.send("post", f"{MODELS}/reorder", {"ids": wanted})) == {"ids": wanted}
    assert [item["order"] for item in data_of(client.get(MODELS))] == [0, 1, 2, 3]
    event = AuditEvent.objects.get(action="ai_model.reordered")
    assert event.changes == {"order": [ids, wanted]}
    # What is new comes last, also behind a gap.
    data_of(client.send("delete", f"{MODELS}/{ids[0]}"))
    (last,) = [data_of(client.send("post", MODELS, SEED), 201)["id"]]
    assert in_order() == [ids[2], ids[3], ids[1], last]


def test_lists_that_are_refused_move_nothing(client: RestClient) -> None:
    ids, (foreign,) = make_models(3), make_models(1, make_tenant())
    refused = {
        "is repeated": [ids[0], ids[1], ids[2], ids[1]],
        "is none of these models": [*ids, foreign],
        "is missing": ids[:2],
    }
    refused_too = {"is none of these models": [*ids, "aim_0"], "is missing": [], "is repeated": [foreign, foreign]}
    for message, given in (*refused.items(), *refused_too.items()):
        answer = client.send("post", f"{MODELS}/reorder", {"ids": given})
        assert failure_of(answer) == (400, "VALIDATION_ERROR")
        assert named_by(answer) == ["ids"]
        assert message in answer.json()["error"]["message"]
    for body in ({}, {"ids": "aim_1"}, {"ids": [1]}, {"ids": [None]}, {"ids": ["a\x00"]}, {"ids": ["x" * 49]}):
        assert failure_of(client.send("post", f"{MODELS}/reorder", body)) == (400, "VALIDATION_ERROR")
    assert in_order() == ids
    assert not AuditEvent.objects.filter(action="ai_model.reordered").exists()


def test_a_long_list_is_refused_as_quickly_as_it_is_taken() -> None:
    """In the time of this thread, of which the database takes nothing."""
    rows = [AiModel(name=f"model-{place}", label="M", order=place) for place in range(10_000)]
    ids = [row.pk for row in AiModel.objects.bulk_create(rows, 5_000)]
    for given in ([*ids[:-1], "aim_0"], ids[:-1], [*ids[:-1], ids[0]]):
        started = time.thread_time()
        with pytest.raises(InvalidInput):
            ai_models.reorder(given)
        assert time.thread_time() - started < 0.5
    assert AiModel.objects.get(pk=ids[-1]).order == 9_999


@pytest.mark.django_db(transaction=True)
def test_why_a_list_is_refused_is_looked_for_when_the_lock_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[bool] = []
    find = ai_models._refused

    def look(*args: Any) -> InvalidInput:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
            held.append(cursor.fetchone() != (0,))
        return find(*args)

    monkeypatch.setattr(ai_models, "_refused", look)
    with pytest.raises(InvalidInput):
        ai_models.reorder(["aim_0"])
    assert held == [False]


def test_each_tenant_has_an_order_of_its_own(client: RestClient) -> None:
    mine, other = make_tenant(), make_tenant()
    own, foreign = make_models(2, mine), make_models(2, other)
    bound = client_of(make_key(tenant=mine).token)
    assert data_of(bound.send("post", f"{MODELS}/reorder", {"ids": own[::-1]})) == {"ids": own[::-1]}
    for given in (foreign[::-1], own + foreign):
        answer = bound.send("post", f"{MODELS}/reorder", {"ids": given})
        assert failure_of(answer) == (400, "VALIDATION_ERROR")
        assert "is none of these models" in answer.json()["error"]["message"]
    assert failure_of(client.send("post", f"{MODELS}/reorder", {"ids": own + foreign})) == (400, "VALIDATION_ERROR")
    assert data_of(client.send("post", f"{MODELS}/reorder", {"ids": foreign[::-1]})) == {"ids": foreign[::-1]}
    assert (in_order(mine), in_order(other)) == (own[::-1], foreign[::-1])


@pytest.mark.django_db(transaction=True)
def test_a_hundred_at_once_leave_a_permutation() -> None:
    ids = make_models(8)
    shuffled = [random.Random(seed).sample(ids, len(ids)) for seed in range(100)]

    def reorder(wanted: list[str]) -> list[str]:
        try:
            return [model.pk for model in ai_models.reorder(wanted)]
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(reorder, shuffled)) == shuffled
    assert in_order() in shuffled
    assert sorted(AiModel.objects.values_list("order", flat=True)) == list(range(8))


@pytest.mark.django_db(transaction=True)
def test_new_ones_and_reorderings_at_once() -> None:
    ids = make_models(3)

    def act(number: int) -> str | None:
        try:
            if number % 2:
                return ai_models.create({"name": f"new-{number}"}).pk
            # A new one may come between the look and the order, which then lacks it.
            with suppress(InvalidInput):
                ai_models.reorder(in_order()[::-1])
            return None
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        made = [model_id for model_id in threads.map(act, range(40)) if model_id]
    rows = dict(AiModel.objects.values_list("pk", "order"))
    assert set(rows) == {*ids, *made}
    assert len(set(rows.values())) == len(rows) == 23
