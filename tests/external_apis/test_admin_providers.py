"""The provider pages of the admin, with real posts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import connection as database
from django.test import Client

from external_apis.admin.config_fields import COMMON, auth_types, config_fields
from external_apis.api_config import PLACEHOLDER
from external_apis.models import Account, ExternalApi, Tenant
from external_apis.providers import create_external_api, delete_external_api, open_config

pytestmark = pytest.mark.django_db

LIST = "/admin/external_apis/externalapi/"
ADD = f"{LIST}add/"
SECRET = "a-very-secret-value-of-this-test-0001"


def change_url(api: ExternalApi) -> str:
    return f"{LIST}{quote(api.pk)}/change/"


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(get_user_model().objects.create_superuser("operator", password="x"))
    return client


@pytest.fixture
def staff() -> Callable[..., Client]:
    """Make signed-in staff with just these permissions, bound to a tenant or not."""

    def make(*codenames: str, tenant: Tenant | None = None) -> Client:
        user = get_user_model().objects.create_user(f"staff{get_user_model().objects.count()}", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        Account.objects.filter(user=user).update(tenant=tenant)
        client = Client()
        client.force_login(user)
        return client

    return make


def posted(auth_type: str = "bearer", **values: Any) -> dict[str, Any]:
    """What a browser posts: every field of every auth type, hidden ones included, with their initial values."""
    page: dict[str, Any] = {
        "name": "Example",
        "slug": "example",
        "category": "other",
        "provider": "",
        "status": "active",
        "environment": "production",
        "tenant": "",
        "partner": "",
        "auth_type": auth_type,
    }
    for group in (COMMON, *auth_types()):
        for field in config_fields(group):
            default = field.default
            page[field.name] = default if isinstance(default, str) and not field.block else ""
    page["config.base_url"] = "https://api.example.com/v1"
    return page | values


def problems(response: Any) -> dict[str, list[str]]:
    assert response.status_code == 200, "the form was accepted"
    errors: dict[str, list[str]] = response.context["adminform"].form.errors
    return {name: list(messages) for name, messages in errors.items()}


def make(**config: Any) -> ExternalApi:
    base = {"base_url": "https://api.example.com/v1", "auth_type": "bearer", "api_key": {"key": SECRET}}
    return create_external_api(
        {"name": "Example", "slug": "example", "category": "other", "api_config": {**base, **config}}
    )


def test_a_posted_form_makes_the_provider_that_rest_would_make(operator: Client) -> None:
    values = posted(
        "oauth2",
        **{
            "oauth2.oauth2.client_id": "client-id",
            "oauth2.oauth2.client_secret": SECRET,
            "oauth2.oauth2.authorization_url": "https://example.com/authorize",
            "oauth2.oauth2.token_url": "https://example.com/token",
            "oauth2.oauth2.scopes": "read\r\n\r\n write ",
            "config.rate_limit.requests_per_hour": "200",
            "config.default_headers": '{"X-Team": "red"}',
            "bearer.api_key.key": "of a hidden field",
        },
    )
    response = operator.post(ADD, values)
    assert response.status_code == 302, problems(response)
    api = ExternalApi.objects.get()
    assert api.api_config["oauth2"]["scopes"] == ["read", "write"]
    assert api.api_config["rate_limit"]["requests_per_hour"] == 200
    assert api.api_config["default_headers"] == {"X-Team": "red"}
    assert "retry_config" not in api.api_config
    assert "webhook" not in api.api_config
    assert dict(api.secrets) == {"oauth2.client_id": "client-id", "oauth2.client_secret": SECRET}
    assert api.provider == "example"
    assert api.created_by == "user:operator"
    assert api.history.get().actor == "user:operator"


@pytest.mark.parametrize("auth_type", ["oauth2", "client_credentials", "oauth1"])
def test_missing_fields_are_named_where_they_stand(operator: Client, auth_type: str) -> None:
    found = problems(operator.post(ADD, posted(auth_type)))
    required = {field.name for field in config_fields(auth_type) if field.info.is_required()}
    assert set(found) == required
    assert not ExternalApi.objects.exists()


@pytest.mark.parametrize("auth_type", ["api_key", "basic", "bearer", "hmac", "none"])
def test_the_defaults_of_every_other_type_are_accepted(operator: Client, auth_type: str) -> None:
    response = operator.post(ADD, posted(auth_type))
    assert response.status_code == 302, problems(response)
    api = ExternalApi.objects.get()
    assert api.auth_type == auth_type
    # What was stored shows up again unchanged when it is saved again.
    before = dict(api.api_config)
    shown = operator.get(change_url(api)).context["adminform"].form
    again = {name: shown[name].value() for name in shown.fields}
    again = {name: "" if value is None else value for name, value in again.items() if value is not False}
    # A browser posts the first choice of a select that shows none, and ends the lines of a text area in its own way.
    for name, field in shown.fields.items():
        if choices := getattr(field, "choices", None):
            again[name] = again[name] or next(iter(choices))[0]
        elif isinstance(again.get(name), str):
            again[name] = again[name].replace("\n", "\r\n")
    assert operator.post(change_url(api), again).status_code == 302
    api.refresh_from_db()
    assert api.api_config == before
    assert LogEntry.objects.latest("pk").get_change_message() == "No fields changed."


def test_the_log_names_what_was_changed_and_nothing_that_is_ignored(operator: Client) -> None:
    api = make()
    values = {"config.timeout_ms": "500", "hmac.hmac.signature_header": "X-Ignored", "name": "Renamed"}
    shown = operator.get(change_url(api)).context["adminform"].form
    page = {name: shown[name].value() for name in shown.fields}
    page = {name: "" if value is None else value for name, value in page.items() if value is not False}
    assert operator.post(change_url(api), page | values).status_code == 302
    assert LogEntry.objects.latest("pk").get_change_message() == "Changed Name and Timeout (ms)."


def test_problems_of_values_stand_at_their_fields(operator: Client) -> None:
    wrong = {
        "config.base_url": "http://api.example.com",
        "config.retry_config.max_retries": "99",
        "hmac.hmac.signature_header": "not a header",
        "config.default_headers": '{"Cookie": "x"}',
    }
    found = problems(operator.post(ADD, posted("hmac", **wrong)))
    assert {"config.base_url", "config.retry_config.max_retries", "hmac.hmac.signature_header"} <= set(found)
    assert problems(operator.post(ADD, posted(slug="Not a slug")))["slug"]
    assert problems(operator.post(ADD, posted(**{"config.webhook.events": "push"})))["config.webhook.url"]


@pytest.mark.parametrize("text", ["[1]", "{", "[" * 5000, '{"a": NaN}', '{"a": "\\ud800"}', '{"a": "\\u0000"}', "5"])
def test_hostile_json_is_a_problem_of_its_field(operator: Client, text: str) -> None:
    assert "config.default_headers" in problems(operator.post(ADD, posted(**{"config.default_headers": text})))


def test_nul_bytes_are_refused_everywhere(operator: Client) -> None:
    assert problems(operator.post(ADD, posted(name="a\0b")))["name"]
    assert problems(operator.post(ADD, posted(**{"bearer.api_key.key": "a\0b"})))["bearer.api_key.key"]


def test_an_empty_secret_keeps_the_stored_one(operator: Client) -> None:
    api = make()
    page = operator.get(change_url(api)).content.decode()
    assert SECRET not in page
    assert f'placeholder="{PLACEHOLDER}"' in page
    response = operator.post(change_url(api), posted(name="Renamed"))
    assert response.status_code == 302, problems(response)
    api.refresh_from_db()
    assert (api.name, dict(api.secrets)) == ("Renamed", {"api_key.key": SECRET})


def test_a_new_secret_replaces_and_the_box_removes_the_stored_one(operator: Client) -> None:
    api = make()
    operator.post(change_url(api), posted(**{"bearer.api_key.key": " with spaces "}))
    assert dict(ExternalApi.objects.get().secrets) == {"api_key.key": " with spaces "}
    both = posted(**{"bearer.api_key.key": "x", "bearer.api_key.key-remove": "on"})
    assert "bearer.api_key.key" in problems(operator.post(change_url(api), both))
    operator.post(change_url(api), posted(**{"bearer.api_key.key-remove": "on"}))
    assert dict(ExternalApi.objects.get().secrets) == {}


def test_the_placeholder_is_refused_as_a_value(operator: Client) -> None:
    api = make()
    found = problems(operator.post(change_url(api), posted(**{"bearer.api_key.key": PLACEHOLDER})))
    assert "placeholder" in found["bearer.api_key.key"][0]
    assert dict(ExternalApi.objects.get().secrets) == {"api_key.key": SECRET}


def test_another_auth_type_drops_the_old_ones_values(operator: Client) -> None:
    api = make()
    # A browser ends the lines of a text area in its own way.
    template = "{method}\r\n{path}\r\n{timestamp}\r\n{body}"
    values = posted("hmac", **{"hmac.hmac.secret": "new secret", "hmac.hmac.template": template})
    response = operator.post(change_url(api), values)
    assert response.status_code == 302, problems(response)
    api.refresh_from_db()
    assert "api_key" not in api.api_config
    assert dict(api.secrets) == {"hmac.secret": "new secret"}
    assert api.api_config["hmac"]["template"] == "{method}\n{path}\n{timestamp}\n{body}"


def test_emptied_fields_and_blocks_are_removed(operator: Client) -> None:
    api = make(
        api_version="1", default_headers={"A": "1", "B": "2"}, rate_limit={"requests_per_second": 3}, timeout_ms=10
    )
    operator.post(change_url(api), posted(**{"config.default_headers": '{"B": "3"}'}))
    config = open_config(ExternalApi.objects.get()).api_config
    assert config.default_headers == {"B": "3"}
    assert (config.rate_limit, config.timeout_ms, config.api_version) == (None, None, None)
    operator.post(change_url(api), posted())
    assert open_config(ExternalApi.objects.get()).api_config.default_headers == {}


def test_several_named_secrets_are_merged(operator: Client) -> None:
    values = {
        "api_key.api_key.location": "headers",
        "api_key.api_key.headers": '{"DD-API-KEY": "one", "DD-APP-KEY": "two"}',
        "api_key.api_key.keys": '{"one": "first secret", "two": "second secret"}',
    }
    response = operator.post(ADD, posted("api_key", **values))
    assert response.status_code == 302, problems(response)
    api = ExternalApi.objects.get()
    values["api_key.api_key.keys"] = '{"two": "third secret"}'
    operator.post(change_url(api), posted("api_key", **values))
    assert dict(ExternalApi.objects.get().secrets) == {
        "api_key.keys.one": "first secret",
        "api_key.keys.two": "third secret",
    }
    values["api_key.api_key.keys"] = "not JSON"
    assert "api_key.api_key.keys" in problems(operator.post(change_url(api), posted("api_key", **values)))


def test_a_taken_slug_is_said_in_words(operator: Client) -> None:
    make()
    assert "exists already" in problems(operator.post(ADD, posted()))["__all__"][0]


def test_no_page_log_or_history_row_shows_a_secret(operator: Client) -> None:
    api = make()
    operator.post(change_url(api), posted(**{"bearer.api_key.key": SECRET + "-second"}))
    history = operator.get(f"{LIST}{quote(api.pk)}/history/")
    assert "user:operator" in history.content.decode()
    assert history.headers["X-Request-Id"].startswith("req_")
    assert ExternalApi.history.first().request_id in history.content.decode()
    for url in (LIST, change_url(api), f"{LIST}{quote(api.pk)}/history/", "/admin/", f"{LIST}{quote(api.pk)}/delete/"):
        assert SECRET not in operator.get(url).content.decode(), url
    assert not any(SECRET in entry.change_message + entry.object_repr for entry in LogEntry.objects.all())
    # A refused form comes back without what was typed into its password inputs.
    refused = operator.post(change_url(api), posted(slug="No!", **{"bearer.api_key.key": SECRET}))
    assert SECRET not in refused.content.decode()


def test_deleting_is_soft_and_can_be_undone(operator: Client) -> None:
    api = make()
    assert operator.post(f"{LIST}{quote(api.pk)}/delete/", {"post": "yes"}).status_code == 302
    api.refresh_from_db()
    assert api.is_deleted
    assert "example" not in listed(operator)
    assert "example" in listed(operator, "?deleted=yes")
    page = operator.get(change_url(api))
    assert page.status_code == 200
    assert b"restored" in page.content
    assert operator.post(change_url(api), posted(name="Changed while deleted")).status_code == 403
    assert operator.get(f"{LIST}{quote(api.pk)}/restore/").status_code == 405
    assert operator.post(f"{LIST}{quote(api.pk)}/restore/").status_code == 302
    assert "example" in listed(operator)


def test_the_actions_of_the_list_delete_softly_and_restore(operator: Client) -> None:
    api = make()
    selected = {"_selected_action": api.pk}
    operator.post(LIST, {"action": "delete_selected", "post": "yes", **selected})
    assert ExternalApi.objects.get().is_deleted
    operator.post(f"{LIST}?deleted=yes", {"action": "restore_selected", **selected})
    assert not ExternalApi.objects.get().is_deleted


def test_a_restore_that_collides_says_so(operator: Client) -> None:
    api = make()
    delete_external_api(api)
    make()
    page = operator.post(f"{LIST}{quote(api.pk)}/restore/", follow=True).content.decode()
    assert "exists already" in page
    api.refresh_from_db()
    assert api.is_deleted


def test_a_preset_of_the_catalogue_fills_the_form(operator: Client) -> None:
    form = operator.get(f"{ADD}?preset=stripe").context["adminform"].form
    assert form["config.base_url"].value() == "https://api.stripe.com/v1"
    assert form["config.request_encoding"].value() == "form"
    assert operator.get(f"{ADD}?preset=no-such").status_code == 200


def test_who_may_only_view_sees_no_input_and_no_button(staff: Callable[..., Client]) -> None:
    api = make()
    viewer = staff("view_externalapi")
    page = viewer.get(change_url(api)).content.decode()
    assert "https://api.example.com/v1" in page
    assert 'type="password"' not in page
    assert "_save" not in page
    assert SECRET not in page
    assert viewer.post(change_url(api), posted(name="Changed")).status_code == 403
    assert viewer.post(f"{LIST}{quote(api.pk)}/restore/").status_code == 404
    assert viewer.get(ADD).status_code == 403
    assert staff().get(change_url(api)).status_code == 403
    assert staff().get(f"{LIST}{quote(api.pk)}/history/").status_code == 404


def test_of_a_shared_provider_a_tenant_sees_neither_facts_of_secrets_nor_who_did_what(
    operator: Client, staff: Callable[..., Client]
) -> None:
    api = make()
    operator.post(change_url(api), posted())
    api.refresh_from_db()
    (fingerprint,) = api.secret_fingerprints.values()
    member = staff("view_externalapi", "change_externalapi", tenant=Tenant.objects.create(slug="mine", name="Mine"))
    page = member.get(change_url(api)).content.decode()
    assert "https://api.example.com/v1" in page
    for hidden in (fingerprint, api.secret_hints["api_key.key"], "operator", "/history/"):
        assert hidden not in page, hidden
    assert member.get(f"{LIST}{quote(api.pk)}/history/").status_code == 404
    # Who sees the whole installation sees all of it, with no more than the right to view.
    viewer = staff("view_externalapi")
    page = viewer.get(change_url(api)).content.decode()
    assert all(shown in page for shown in (fingerprint, "user:operator", "/history/"))
    assert viewer.get(f"{LIST}{quote(api.pk)}/history/").status_code == 200


def test_staff_of_a_tenant_reads_global_and_own_rows_and_changes_its_own(staff: Callable[..., Client]) -> None:
    mine, theirs = (Tenant.objects.create(slug=slug, name=slug) for slug in ("mine", "theirs"))
    shared = make()
    foreign = create_external_api({**body(), "slug": "foreign", "sales_channel_id": theirs.pk})
    member = staff("view_externalapi", "change_externalapi", "add_externalapi", "delete_externalapi", tenant=mine)
    assert member.post(ADD, posted(slug="own")).status_code == 302
    own = ExternalApi.objects.get(slug="own")
    assert own.tenant == mine
    assert 'name="name"' in member.get(change_url(own)).content.decode()
    assert 'name="name"' not in member.get(change_url(shared)).content.decode()
    assert member.post(change_url(shared), posted(name="Changed")).status_code == 403
    for page in ("change", "history", "delete"):
        missing = member.get(f"{LIST}ext_api_missing/{page}/")
        found = member.get(f"{LIST}{quote(foreign.pk)}/{page}/")
        assert (found.status_code, found.headers.get("Location")) == (
            missing.status_code,
            missing.headers.get("Location"),
        )
        assert found.status_code in (302, 404)
    assert "foreign" not in listed(member)
    assert member.post(ADD, posted(slug="stolen", tenant=theirs.pk)).status_code == 200


def test_staff_of_a_tenant_cannot_delete_or_restore_what_all_share(staff: Callable[..., Client]) -> None:
    mine = Tenant.objects.create(slug="mine", name="Mine")
    shared, gone = make(), create_external_api({**body(), "slug": "gone"})
    delete_external_api(gone)
    own = create_external_api({**body(), "slug": "own", "sales_channel_id": mine.pk})
    member = staff("view_externalapi", "delete_externalapi", tenant=mine)
    for selected in ([shared.pk], [shared.pk, own.pk]):
        action = {"action": "delete_selected", "post": "yes", "_selected_action": selected}
        assert member.post(LIST, action).status_code == 403
    member.post(f"{LIST}?deleted=yes", {"action": "restore_selected", "_selected_action": [gone.pk]})
    assert member.post(f"{LIST}{quote(gone.pk)}/restore/").status_code == 404
    assert member.post(f"{LIST}{quote(shared.pk)}/delete/", {"post": "yes"}).status_code == 403
    assert set(ExternalApi.objects.filter(deleted_at=None)) == {shared, own}
    member.post(LIST, {"action": "delete_selected", "post": "yes", "_selected_action": [own.pk]})
    assert set(ExternalApi.objects.filter(deleted_at=None)) == {shared}


def test_autocompletion_offers_only_what_may_be_seen(staff: Callable[..., Client]) -> None:
    mine, theirs = (Tenant.objects.create(slug=slug, name=slug) for slug in ("mine", "theirs"))
    member = staff("view_tenant", "change_externalapi", tenant=mine)
    query = "?app_label=external_apis&model_name=externalapi&field_name=tenant&term="
    offered = member.get(f"/admin/autocomplete/{query}").json()["results"]
    assert [row["id"] for row in offered] == [mine.pk]
    assert theirs.pk not in str(offered)
    assert staff("change_externalapi").get(f"/admin/autocomplete/{query}").status_code == 403


def test_a_row_that_cannot_be_opened_says_so(operator: Client) -> None:
    api = make()
    with database.cursor() as cursor:
        cursor.execute("UPDATE external_apis_externalapi SET secrets = substring(secrets from 1 for 50)")
    assert operator.get(change_url(api)).status_code == 200
    assert operator.get(LIST).status_code == 200
    found = problems(operator.post(change_url(api), posted(name="Renamed")))
    assert found["__all__"]
    assert ExternalApi.objects.get().name == "Example"


def test_error_pages_are_plain_and_name_the_request(operator: Client, settings: Any) -> None:
    settings.DEBUG = False
    missing = operator.get("/nothing-here")
    assert missing.status_code == 404
    assert missing.headers["X-Request-Id"] in missing.content.decode()
    forbidden = Client(enforce_csrf_checks=True).post("/admin/login/", {"username": "x", "password": SECRET})
    assert forbidden.status_code == 403
    assert b"gone stale" in forbidden.content
    assert SECRET not in forbidden.content.decode()


def test_an_unforeseen_failure_shows_neither_secret_nor_traceback(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(f"with {SECRET} in it")

    monkeypatch.setattr("external_apis.admin.provider_form.create_external_api", fail)
    operator.raise_request_exception = False
    answer = operator.post(ADD, posted(**{"bearer.api_key.key": SECRET}))
    assert answer.status_code == 500
    page = answer.content.decode()
    assert answer.headers["X-Request-Id"] in page
    assert SECRET not in page
    assert "Traceback" not in page


def test_staff_of_a_tenant_cannot_widen_its_own_rights(staff: Callable[..., Client]) -> None:
    mine = Tenant.objects.create(slug="mine", name="Mine")
    everything = [permission.codename for permission in Permission.objects.all()]
    member = staff(*everything, tenant=mine)
    for url in ("/admin/auth/user/", "/admin/auth/group/", "/admin/auth/user/add/"):
        assert member.get(url).status_code == 403, url
    for name in ("tenant", "partner", "account"):
        assert member.get(f"/admin/external_apis/{name}/").status_code == 200
        assert member.get(f"/admin/external_apis/{name}/add/").status_code == 403
    account = Account.objects.get(tenant=mine)
    member.post(f"/admin/external_apis/account/{account.pk}/change/", {"user": account.user_id, "tenant": ""})
    account.refresh_from_db()
    assert account.tenant == mine


def test_the_list_takes_the_same_queries_for_few_and_many_rows(
    operator: Client, django_assert_max_num_queries: Any
) -> None:
    for number in range(30):
        create_external_api({**body(), "slug": f"api-{number}"})
    with django_assert_max_num_queries(5):
        page = operator.get(LIST)
    assert len(page.context["cl"].result_list) == 30


def test_every_page_of_the_ground_floor_opens(operator: Client) -> None:
    names = ("externalapi", "tenant", "partner", "account", "catalogueentry")
    for url in ("/admin/", *(f"/admin/external_apis/{name}/" for name in names), "/admin/auth/user/", ADD):
        assert operator.get(url).status_code == 200, url
    assert operator.get("/admin/external_apis/catalogueentry/add/").status_code == 403
    user = get_user_model().objects.get()
    for url in ("add/", f"{user.pk}/change/", f"{user.pk}/password/"):
        assert operator.get(f"/admin/auth/user/{url}").status_code == 200, url


def body() -> dict[str, Any]:
    config = {"base_url": "https://api.example.com/v1", "auth_type": "bearer"}
    return {"name": "Example", "slug": "example", "category": "other", "api_config": config}


def listed(client: Client, query: str = "") -> list[str]:
    return [row.slug for row in client.get(f"{LIST}{query}").context["cl"].result_list]


def test_rules_variables_and_weights_are_written_as_json_and_come_back(operator: Client) -> None:
    rule = {"action": "fail", "body_path": "ok", "body_equals": False}
    values = {
        "config.base_url": "https://{shop}.example.com",
        "config.url_variables": '{"shop": {"pattern": "[a-z]+"}}',
        "config.response_rules": json.dumps([rule]),
        "config.rate_limit.requests_per_second": "50",
        "config.rate_limit.burst": "5",
        "config.rate_limit.weights": '{"POST": 2}',
        "config.retry_config.retry_statuses": "408\n425",
        "config.retry_config.idempotency_header": "Idempotency-Key",
        "config.also.headers": '{"X-Key": "{team_key}"}',
        "config.also.keys": json.dumps({"team_key": SECRET}),
        "config.mutual_tls": "on",
    }
    assert operator.post(ADD, posted(**values)).status_code == 302
    api = ExternalApi.objects.get()
    config = open_config(api).api_config
    assert config.url_variables["shop"].pattern == "[a-z]+"
    assert config.response_rules[0].model_dump(exclude_defaults=True) == rule
    assert config.rate_limit is not None
    assert (config.rate_limit.burst, config.rate_limit.weights) == (5, {"POST": 2})
    assert config.retry_config is not None
    assert config.retry_config.retry_statuses == [408, 425]
    assert config.also is not None
    assert config.also.keys["team_key"].get_secret_value() == SECRET
    assert config.credentials_expected() >= {"team_key", "client_certificate", "client_key"}
    page = operator.get(change_url(api))
    form = page.context["adminform"].form
    assert SECRET not in page.content.decode()
    shown = {name: form[name].value() for name in form.fields if name in values and "keys" not in name}
    assert shown["config.retry_config.retry_statuses"] == "408\n425"
    assert json.loads(shown["config.response_rules"])[0]["body_path"] == "ok"
    again = {name: form[name].value() for name in posted() if name in form.fields}
    again = {name: "" if value in (None, False) else value for name, value in again.items()}
    assert operator.post(change_url(api), again).status_code == 302
    assert open_config(ExternalApi.objects.get()).api_config == config


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.response_rules", '{"action": "fail"}'),
        ("config.response_rules", '[{"action": "explode", "http_codes": [200]}]'),
        ("config.response_rules", '[{"action": "fail"}]'),
        ("config.url_variables", '{"shop": {"pattern": "("}}'),
        ("config.rate_limit.weights", '{"SHOUT": 2}'),
        ("config.retry_config.retry_statuses", "404"),
        ("config.also.headers", '{"X-Key": "plain"}'),
    ],
)
def test_what_they_may_not_hold_is_said_at_their_field(operator: Client, name: str, text: str) -> None:
    assert name in problems(operator.post(ADD, posted(**{name: text})))


@pytest.mark.parametrize(
    ("methods", "paths"),
    [
        ("GET\r\nPOST", "/charges\r\n/reports/**"),
        ("GET, POST", "/charges, /reports/**"),
        ("GET,POST,", " /charges ,  /reports/** "),
        ('["GET", "POST"]', '["/charges",\n "/reports/**"]'),
    ],
)
def test_what_other_programs_may_call_is_written_as_anybody_would(operator: Client, methods: str, paths: str) -> None:
    values = posted(**{"config.proxy.methods": methods, "config.proxy.paths": paths})
    response = operator.post(ADD, values)
    assert response.status_code == 302, problems(response)
    rules = ExternalApi.objects.get().api_config["proxy"]
    assert rules == {"methods": ["GET", "POST"], "paths": ["/charges", "/reports/**"]}


def test_a_wrong_line_is_named_in_words(operator: Client) -> None:
    values = {"config.proxy.methods": "GET\nSEND", "config.proxy.paths": "/charges\nreports/**\n/a b"}
    found = problems(operator.post(ADD, posted(**values)))
    assert found["config.proxy.methods"] == [
        "\"SEND\": Input should be 'DELETE', 'GET', 'HEAD', 'OPTIONS', 'PATCH', 'POST' or 'PUT'"
    ]
    told = "is no path below the base URL: it begins with a slash, and holds no space, backslash, ? or #"
    assert found["config.proxy.paths"] == [f'"reports/**": {told}', f'"/a b": {told}']


def test_what_could_be_one_value_is_not_taken_apart(operator: Client) -> None:
    assert operator.post(ADD, posted(**{"config.proxy.paths": "/a,b\n/[c]"})).status_code == 302
    assert ExternalApi.objects.get().api_config["proxy"]["paths"] == ["/a,b", "/[c]"]


def test_the_form_explains_what_other_programs_may_call(operator: Client) -> None:
    page = operator.get(ADD).content.decode()
    for told in (
        "Gateway: what other programs may call",
        "Left empty, everything may be called",
        "/reports/**",
        "One a",
    ):
        assert told in page
