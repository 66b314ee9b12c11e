"""Creating, changing, deleting and resolving providers."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from external_apis import providers, request_context
from external_apis.errors import Conflict, InvalidConfiguration, InvalidInput, NotFound
from external_apis.models import ExternalApi, Partner, Tenant
from external_apis.tenancy import Scope
from tests.factories import make_provider

pytestmark = pytest.mark.django_db

SENDGRID: dict[str, Any] = {
    "name": "SendGrid Email",
    "slug": "sendgrid",
    "category": "email",
    "api_config": {
        "base_url": "https://api.sendgrid.com/v3",
        "auth_type": "bearer",
        "api_key": {"key": "SG.swordfish", "header_name": "Authorization", "key_prefix": "Bearer "},
    },
}


def make(**changes: Any) -> ExternalApi:
    return providers.create_external_api({**SENDGRID, **changes})


def tables_hold(text: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT t::text FROM external_apis_externalapi t")
        rows = cursor.fetchall()
        cursor.execute("SELECT t::text FROM external_apis_historicalexternalapi t")
        return text in repr(rows + cursor.fetchall())


def test_the_seeds_body_is_complete() -> None:
    api = make()
    assert (api.provider, api.environment, api.status, api.is_sandbox) == ("sendgrid", "production", "active", False)
    assert api.api_config["request_encoding"] == "json"
    assert api.id.startswith("ext_api_")
    assert providers.get_api_config("sendgrid").api_config.api_key.key.get_secret_value() == "SG.swordfish"  # type: ignore[union-attr]
    assert not tables_hold("swordfish")


def test_the_seeds_stripe_posts_forms() -> None:
    config = {"base_url": "https://api.stripe.com/v1", "auth_type": "bearer"}
    assert make(slug="stripe", api_config=config).api_config["request_encoding"] == "form"
    chosen = {**config, "request_encoding": "json"}
    assert make(slug="stripe", environment="staging", api_config=chosen).api_config["request_encoding"] == "json"


def test_an_id_may_be_given_once() -> None:
    assert make(id="ext_api_sendgrid_001").id == "ext_api_sendgrid_001"
    with pytest.raises(Conflict):
        make(id="ext_api_sendgrid_001", slug="other")


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"slug": "Not A Slug"}, "slug"),
        ({"slug": None}, "slug"),
        ({"name": ""}, "name"),
        ({"name": "   "}, "name"),
        ({"name": "x\0y"}, "name"),
        ({"name": "x\ud800"}, "name"),
        ({"category": "food"}, "category"),
        ({"environment": "moon"}, "environment"),
        ({"status": "on"}, "status"),
        ({"colour": "red"}, "colour"),
        ({"api_config": "x"}, "api_config"),
        ({"id": "../../etc"}, "id"),
    ],
)
def test_bad_bodies_are_refused_with_the_path(change: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        make(**change)
    assert path in [item["path"] for item in caught.value.details["errors"]]


def test_bottomless_nesting_is_refused() -> None:
    nested: Any = "x"
    for _ in range(100):
        nested = {"a": nested}
    with pytest.raises(InvalidInput, match="levels deep"):
        make(api_config=nested)


def test_unknown_owners_are_refused() -> None:
    with pytest.raises(NotFound, match="Tenant ten_none not found"):
        make(sales_channel_id="ten_none")
    with pytest.raises(NotFound, match="Partner ptn_none not found"):
        make(partner_id="ptn_none")


def test_one_live_row_for_each_combination() -> None:
    first = make()
    with pytest.raises(Conflict, match="'sendgrid' exists already"):
        make()
    make(environment="staging")
    make(is_sandbox=True)
    providers.delete_external_api(first)
    second = make()
    with pytest.raises(Conflict):
        providers.restore_external_api(first)
    providers.delete_external_api(second)
    first.refresh_from_db()
    providers.restore_external_api(first)
    assert providers.find(first.pk) == first


def test_a_change_keeps_the_secrets_that_it_does_not_mention() -> None:
    api = make()
    api = providers.update_external_api(api, {"name": "Mail", "api_config": {"timeout_ms": 5000}})
    assert (api.name, api.api_config["timeout_ms"]) == ("Mail", 5000)
    assert api.secrets["api_key.key"] == "SG.swordfish"
    api = providers.update_external_api(api, {"api_config": {"api_key": {"key": "SG.new"}, "timeout_ms": None}})
    assert "timeout_ms" not in api.api_config
    assert api.secrets["api_key.key"] == "SG.new"
    api = providers.update_external_api(api, {"api_config": {"api_key": {"key": None}}})
    assert dict(api.secrets) == {}


def test_what_an_answer_shows_may_be_sent_back() -> None:
    api = make()
    shown = providers.config_with_facts(api)
    assert "swordfish" not in repr(shown)
    assert set(shown["api_key"]["key_encrypted"]) == {"keyVersion", "fingerprint", "hint"}
    api = providers.update_external_api(api, {"api_config": shown})
    assert api.secrets["api_key.key"] == "SG.swordfish"
    forged = {"api_key": {"key_encrypted": {**shown["api_key"]["key_encrypted"], "fingerprint": "0" * 16}}}
    with pytest.raises(InvalidConfiguration) as caught:
        providers.update_external_api(api, {"api_config": forged})
    assert caught.value.details["errors"][0]["path"] == "api_config.api_key.key_encrypted"


def test_another_auth_type_drops_the_old_ones_block_and_secret() -> None:
    api = make()
    api = providers.update_external_api(api, {"api_config": {"auth_type": "hmac", "hmac": {"secret": "new-secret"}}})
    assert "api_key" not in api.api_config
    assert dict(api.secrets) == {"hmac.secret": "new-secret"}


def test_a_refused_change_changes_nothing() -> None:
    api = make()
    with pytest.raises(InvalidConfiguration):
        providers.update_external_api(api, {"name": "x", "api_config": {"base_url": "http://plain.example"}})
    assert providers.find(api.pk).name == "SendGrid Email"


def test_moving_a_plain_http_provider_to_production_is_refused() -> None:
    config = {"base_url": "http://plain.example", "auth_type": "none"}
    api = make(environment="development", api_config=config)
    with pytest.raises(InvalidConfiguration, match="https is needed in production"):
        providers.update_external_api(api, {"environment": "production"})


def test_history_tells_who_when_and_from_which_request() -> None:
    with request_context.acting("command:test"):
        api = make()
        providers.update_external_api(api, {"name": "Mail"})
        request_id = request_context.current().request_id
    changes = list(api.history.order_by("history_date"))
    assert [(change.actor, change.request_id, change.name) for change in changes] == [
        ("command:test", request_id, "SendGrid Email"),
        ("command:test", request_id, "Mail"),
    ]
    assert request_id.startswith("req_")
    assert (api.created_by, providers.find(api.pk).updated_by) == ("command:test", "command:test")


def test_opened_configurations_reveal_nothing() -> None:
    make()
    opened = providers.get_api_config("sendgrid")
    assert "swordfish" not in f"{opened!r} {opened} {opened.api_config!r} {opened.api_config}"
    with pytest.raises(TypeError):
        pickle.dumps(opened)


def test_missing_ones_in_the_seeds_words() -> None:
    with pytest.raises(NotFound, match=r"^External API ext_api_none not found$"):
        providers.find("ext_api_none")
    with pytest.raises(NotFound, match=r"^External API nothing not found$"):
        providers.get_api_config("nothing")


class TestResolving:
    """partner, then tenant, then global."""

    @pytest.fixture(autouse=True)
    def rows(self) -> None:
        self.acme = Tenant.objects.create(slug="acme", name="Acme")
        self.other = Tenant.objects.create(slug="other", name="Other")
        self.partner = Partner.objects.create(slug="p", name="P", tenant=self.acme)
        self.everybody = make()
        self.tenants = make(sales_channel_id=self.acme.pk)
        self.partners = make(sales_channel_id=self.acme.pk, partner_id=self.partner.pk)

    def test_the_most_specific_active_one_wins(self) -> None:
        acme, partner = self.acme.pk, self.partner.pk
        assert providers.resolve("sendgrid") == self.everybody
        assert providers.resolve("sendgrid", tenant=self.other.pk) == self.everybody
        assert providers.resolve("sendgrid", tenant=acme) == self.tenants
        assert providers.resolve("sendgrid", tenant=acme, partner=partner) == self.partners
        providers.update_external_api(self.partners, {"status": "inactive"})
        assert providers.resolve("sendgrid", tenant=acme, partner=partner) == self.tenants
        providers.delete_external_api(self.tenants)
        assert providers.resolve("sendgrid", tenant=acme, partner=partner) == self.everybody

    def test_it_explains_itself_without_a_secret_and_without_speaking_of_others(self) -> None:
        with CaptureQueriesContext(connection) as queries:
            resolution = providers.explain("sendgrid", tenant=self.acme.pk, partner=self.partner.pk)
        assert len(queries) == 1
        assert [(step.level, step.is_chosen) for step in resolution.steps] == [
            ("partner", True),
            ("tenant", False),
            ("global", False),
        ]
        assert all(step.reason for step in resolution.steps)
        assert "swordfish" not in repr(resolution)
        assert [step.level for step in providers.explain("sendgrid", tenant=self.other.pk).steps] == ["global"]

    def test_an_inactive_one_says_so(self) -> None:
        providers.update_external_api(self.everybody, {"status": "inactive"})
        resolution = providers.explain("sendgrid")
        assert (resolution.chosen, resolution.steps[0].reason) == (None, "is inactive")
        with pytest.raises(NotFound):
            providers.resolve("sendgrid")

    def test_without_an_environment_production_goes_first_and_nothing_is_guessed(self) -> None:
        staging = make(slug="x", environment="staging")
        assert providers.resolve("x") == staging
        sandbox = make(slug="x", environment="development", is_sandbox=True)
        with pytest.raises(Conflict, match="ambiguous"):
            providers.resolve("x")
        assert providers.resolve("x", "development") == sandbox
        assert providers.resolve("x", is_sandbox=False) == staging
        live = make(slug="x")
        assert providers.resolve("x") == live

    def test_a_scope_reads_its_own_and_the_global_ones(self) -> None:
        scope = Scope(self.other.pk)
        assert providers.find(self.everybody.pk, scope) == self.everybody
        with pytest.raises(NotFound, match=f"External API {self.tenants.pk} not found"):
            providers.find(self.tenants.pk, scope)
        with pytest.raises(NotFound):
            providers.create_external_api({**SENDGRID, "slug": "y", "sales_channel_id": self.acme.pk}, scope)
        assert providers.create_external_api({**SENDGRID, "slug": "y"}, scope).tenant_id == self.other.pk


def test_mutual_tls_comes_and_goes_with_the_auth_type() -> None:
    api = make_provider()
    for auth_type, is_mutual in (("mtls", True), ("bearer", False)):
        api = providers.update_external_api(api, {"api_config": {"auth_type": auth_type}})
        assert providers.open_config(api).api_config.mutual_tls is is_mutual
    api = providers.update_external_api(api, {"api_config": {"mutual_tls": True}})
    assert providers.open_config(api).api_config.mutual_tls
