"""The pages of API keys: shown once and never stored, revoked and rolled by those who may."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.contrib.sessions.models import Session
from django.test import Client

from external_apis import keys
from external_apis.authentication import authenticate_token
from external_apis.key_format import is_well_formed
from external_apis.models import ApiKey, AuditEvent
from tests.factories import make_key, make_tenant, make_user

pytestmark = pytest.mark.django_db
LIST = "/admin/external_apis/apikey/"
ALL = [f"external_apis.{action}_apikey" for action in ("view", "add", "change", "delete")]


def signed_in(**fields: Any) -> Client:
    client = Client()
    client.force_login(make_user(**fields))
    return client


@pytest.fixture
def operator() -> Client:
    return signed_in(username="operator", is_superuser=True)


def posted(**values: Any) -> dict[str, Any]:
    page: dict[str, Any] = {"title": "Mine", "type": "secret", "mode": "live", "tenant": "", "owner": "", "service": ""}
    page |= {"allowed_networks": "", "rate_limit": "", "expires_at_0": "", "expires_at_1": "", "scopes": []}
    return page | values


def url(key: ApiKey, page: str) -> str:
    return f"{LIST}{quote(key.pk)}/{page}/"


def problems(response: Any) -> dict[str, list[str]]:
    assert response.status_code == 200
    return {name: list(texts) for name, texts in response.context["adminform"].form.errors.items()}


def test_a_new_key_is_shown_once_on_a_page_that_nobody_keeps(operator: Client) -> None:
    tenant = make_tenant()
    sent = posted(
        scopes=["providers:read", "proxy"], tenant=tenant.pk, allowed_networks="127.0.0.1\n10.0.0.0/8", rate_limit="9",
        expires_at_0="2099-01-02", expires_at_1="03:04:05",
    )  # fmt: skip
    assert operator.get(f"{LIST}add/").status_code == 200
    response = operator.post(f"{LIST}add/", sent)
    assert response.status_code == 200
    assert "no-store" in response["Cache-Control"]
    token = response.context["token"]
    assert is_well_formed(token)
    assert response.content.decode().count(token) == 1
    key = ApiKey.objects.get()
    assert authenticate_token(token, "10.1.1.1").key_id == key.pk
    assert (key.tenant, key.scopes, key.rate_limit) == (tenant, ["providers:read", "proxy"], 9)
    assert key.allowed_networks == ["127.0.0.1/32", "10.0.0.0/8"]
    assert key.expires_at is not None
    assert key.expires_at.isoformat() == "2099-01-02T03:04:05+00:00"
    assert key.created_by == "user:operator"
    for page in (LIST, url(key, "change"), url(key, "revoke"), url(key, "roll"), url(key, "history")):
        shown = operator.get(page)
        assert shown.status_code == 200
        assert token.encode() not in shown.content
        assert key.digest.hex().encode() not in shown.content
    assert token not in str(list(LogEntry.objects.values()))
    assert all(token not in str(session.get_decoded()) for session in Session.objects.all())
    assert AuditEvent.objects.get(action="api_key.created").actor == "user:operator"


def test_mistakes_stand_at_their_fields(operator: Client) -> None:
    assert "scopes" in problems(operator.post(f"{LIST}add/", posted(scopes=["root"])))
    assert "allowed_networks" in problems(operator.post(f"{LIST}add/", posted(allowed_networks="home")))
    assert "tenant" in problems(operator.post(f"{LIST}add/", posted(type="publishable")))
    past = posted(expires_at_0="2020-01-01", expires_at_1="00:00")
    assert "expires_at" in problems(operator.post(f"{LIST}add/", past))
    far = posted(expires_at_0="9999-12-31", expires_at_1="23:59")
    assert "expires_at" in problems(operator.post(f"{LIST}add/", far))
    assert "rate_limit" in problems(operator.post(f"{LIST}add/", posted(rate_limit="0")))
    assert not ApiKey.objects.exists()


def test_nothing_but_the_title_is_changed(operator: Client) -> None:
    key = make_key(scopes=["proxy"]).key
    response = operator.post(url(key, "change"), posted(title="Other", scopes=["*"], rate_limit="9", mode="test"))
    assert response.status_code == 302
    key.refresh_from_db()
    assert (key.title, key.scopes, key.rate_limit, key.mode) == ("Other", ["proxy"], None, "live")
    assert AuditEvent.objects.filter(action="api_key.updated", object_id=key.pk).count() == 1


def test_revoking_now_and_later(operator: Client) -> None:
    made = make_key()
    assert b"has not been used" in operator.get(url(made.key, "revoke")).content
    later = operator.post(url(made.key, "revoke"), {"seconds": "3600"})
    assert b"It works until" in later.content
    assert keys.verify(made.token).is_valid
    assert b"revoked already" in operator.post(url(made.key, "revoke"), {"seconds": "7200"}).content
    for seconds in ("-1", "soon", "", "999999999999"):
        assert operator.post(url(made.key, "revoke"), {"seconds": seconds}).status_code == 200
        assert keys.verify(made.token).is_valid
    operator.post(url(made.key, "revoke"), {"seconds": "0"})
    assert not keys.verify(made.token).is_valid
    assert keys.find(made.key.pk).revoked_by == "user:operator"
    events = AuditEvent.objects.filter(object_id=made.key.pk, action="api_key.revoked")
    assert [event.actor for event in events] == ["user:operator"] * 2  # later, and now


def test_rolling_shows_the_successor_once(operator: Client) -> None:
    made = make_key()
    ApiKey.objects.update(last_used_at=made.key.created_at, last_used_from="192.0.2.1")
    assert b"192.0.2.1" in operator.get(url(made.key, "roll")).content
    response = operator.post(url(made.key, "roll"), {"seconds": "60"})
    assert "no-store" in response["Cache-Control"]
    assert keys.verify(response.context["token"]).is_valid
    assert keys.verify(made.token).is_valid
    actions = AuditEvent.objects.filter(actor="user:operator").values_list("action", flat=True)
    assert "api_key.rolled" in actions
    assert b"nothing to roll" in operator.post(url(made.key, "roll"), {"seconds": "0"}).content


def test_the_lists_actions(operator: Client) -> None:
    first, second, third = (make_key() for _ in range(3))
    keys.revoke(first.key)
    chosen = {"action": "revoke_selected", "_selected_action": [first.key.pk, second.key.pk]}
    response = operator.post(LIST, chosen, follow=True)
    assert b"Revoked: 1." in response.content
    assert b"revoked already" in response.content
    assert not keys.verify(second.token).is_valid
    assert keys.verify(third.token).is_valid
    chosen = {"action": "delete_selected", "_selected_action": [second.key.pk, third.key.pk], "post": "yes"}
    operator.post(LIST, chosen)
    assert set(ApiKey.objects.all()) == {first.key, third.key}
    assert operator.post(url(third.key, "delete"), {"post": "yes"}).status_code == 403
    assert operator.post(url(first.key, "delete"), {"post": "yes"}).status_code == 302
    assert set(ApiKey.objects.all()) == {third.key}


def test_staff_of_a_tenant_see_and_make_its_keys_with_their_own_rights() -> None:
    tenant = make_tenant()
    mine, foreign, shared = make_key(tenant=tenant), make_key(tenant=make_tenant()), make_key()
    client = signed_in(tenant=tenant, permissions=[*ALL, "external_apis.view_externalapi"])
    assert {key.pk for key in client.get(LIST).context["cl"].result_list} == {mine.key.pk}
    for key in (foreign.key, shared.key):
        for page in ("revoke", "roll"):
            assert client.post(url(key, page), {"seconds": "0"}).status_code == 404
    # The key may do more than whoever would roll it.
    client.post(url(mine.key, "roll"), {"seconds": "0"})
    assert client.post(f"{LIST}add/", posted(scopes=["connections:write"])).status_code == 200
    assert ApiKey.objects.count() == 3
    token = client.post(f"{LIST}add/", posted(scopes=["providers:read"])).context["token"]
    assert authenticate_token(token, None).tenant_id == tenant.pk
    assert all(keys.verify(made.token).is_valid for made in (mine, foreign, shared))


@pytest.mark.parametrize("page", ["revoke", "roll"])
def test_looking_at_keys_is_not_ending_them(page: str) -> None:
    made = make_key()
    client = signed_in(permissions=["external_apis.view_apikey"])
    assert client.post(url(made.key, page), {"seconds": "0"}).status_code == 404
    assert client.get(url(made.key, "change")).status_code == 200
    assert keys.verify(made.token).is_valid


def test_a_list_costs_the_same_for_any_number_of_keys(operator: Client, django_assert_max_num_queries: Any) -> None:
    for _ in range(12):
        make_key(tenant=make_tenant())
    with django_assert_max_num_queries(8):
        assert operator.get(LIST).status_code == 200
