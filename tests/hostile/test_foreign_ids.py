"""Another tenant's ids, in every place of every route that takes one: the answer of an id that never was.

The routes, their parameters and their fields come from the OpenAPI document, and that from the code. A route that is
not documented, a parameter whose kind is not known here, or a body that nobody gave an example of, is a failure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import transaction
from django.test import Client

from connections.connect_links.invitations import create_link
from connections.models import ExternalApiConnection
from external_apis.backoffice.ai_usage_rollup import roll_up
from external_apis.backoffice.models import AiCall
from external_apis.models import Account, ApiKey, ExternalApi, Partner, Tenant
from tests.affiliates import make_affiliate
from tests.ai_models import make_ai_model
from tests.content import make_blog, make_feature_request, make_message
from tests.exsvc import bearer
from tests.factories import make_connection, make_key, make_partner, make_provider, make_tenant, make_user
from tests.inbound import make_webhook_event
from tests.operations import DocumentedOperation, operations, routes
from tests.webhook_receiver import make_delivery, make_endpoint
from tests.workflow_runs import SMS, make_run

pytestmark = pytest.mark.django_db

KINDS = {
    "reference": "provider",
    "service_id": "provider",
    "external_api_id": "provider",
    "connection_reference": "connection",
    "connection_id": "connection",
    "link_id": "link",
    "key_id": "key",
    "tenant_id": "tenant",
    "sales_channel_id": "tenant",
    "partner_id": "partner",
    "user_id": "account",
    "owner_id": "account",
    "session_id": "session",
    "endpoint_id": "endpoint",
    "delivery_id": "delivery",
    "webhook_event_id": "webhook_event",
    "run_id": "run",
    "blog_id": "blog",
    "affiliate_id": "affiliate",
    "model_id": "model",
    "id": "model",
    "feature_request_id": "feature_request",
    "contact_message_id": "contact_message",
}
"""What the parameters and fields that hold an id name."""

NO_REFERENCES = {"id"}
"""Fields that end as an id does and give the new row its own."""

BODIES: Mapping[str, Mapping[str, Any]] = {
    "create_provider": {
        "name": "New",
        "slug": "new",
        "category": "other",
        "api_config": {"base_url": "https://api.example.com", "auth_type": "bearer"},
    },
    "create_admin_provider": {
        "name": "New",
        "slug": "new",
        "category": "other",
        "apiConfig": {"base_url": "https://api.example.com", "auth_type": "bearer"},
    },
    "create_connection": {"connection_name": "New", "credentials": {"access_token": "new"}},
    "create_admin_connection": {"connectionName": "New", "credentials": {"access_token": "new"}},
    "create_connect_link": {},
    "update_connection": {"note": "Changed"},
    "update_admin_connection": {"note": "Changed"},
    "create_api_key": {"title": "New", "type": "secret", "scopes": ["providers:read"]},
    "update_api_key": {"title": "Changed"},
    "create_partner": {"name": "New", "slug": "new"},
    "create_service": {"name": "New", "base_url": "https://api.example.com"},
    "replace_service": {"name": "New", "base_url": "https://api.example.com"},
    "start_workflow": {"name": "send-sms", "input": SMS},
    "create_webhook_endpoint": {"url": "https://hooks.example.com/in"},
    "update_webhook_endpoint": {"description": "Changed"},
    "replay_webhook_deliveries": {"since": "2026-01-01T00:00:00Z"},
    "update_service": {"description": "Changed"},
    "create_blog": {"title": "New"},
    "create_model": {"name": "new"},
    "update_model": {"label": "Changed"},
    "reorder_models": {},
    "update_blog": {"title": "Changed"},
    "update_feature_request": {"status": "planned"},
    "store_service_credentials": {"credentials": {"access_token": "new"}},
}
"""A good body for each operation that takes an id in its body."""

UNDOCUMENTED = {
    "/admin/external-apis/{reference}/oauth/callback", "/api/admin/oauth/{reference}/callback",
    "/admin/external-apis/{reference}/oauth/attempts/{flow_id}",
    "/api/webhooks/{slug}", "/api/webhooks/{slug}/{api_id}",
    "/api/schema", "/api/docs", "/exsvc/schema", "/exsvc/docs",
    "/^exsvc(?:/.*)?$", "/^api/external(?:/.*)?$", "/^admin/external-apis(?:/.*)?$",
}  # fmt: skip
"""Routes without an operation: where providers send browsers back to (a state tells whose attempt it is), what became
of one (for the session that began it), where providers send webhooks (signed by them), the documents and their pages,
and what answers for unknown routes."""

THROUGH_THE_SHARED = {"create_connection", "create_connect_link"}
"""Operations whose body is to name a connection of the provider that all share."""

FILTERED_BY_WHAT_THERE_IS = {"get_usage_analytics", "chat_with_model"}
"""Operations that refuse an id in their query of which there is nothing, where lists have no rows of it."""


@dataclass(frozen=True)
class Household:
    """A tenant with one row of each kind; the connection is one to a provider that all tenants share."""

    tenant: Tenant
    ids: Mapping[str, str]


def _household(shared: ExternalApi) -> Household:
    tenant = make_tenant()
    make_user(tenant=tenant)
    own = make_provider(tenant=tenant)
    make_connection(own, tenant=tenant)
    endpoint = make_endpoint(None, tenant=tenant)
    account = Account.objects.get(tenant=tenant)
    Client().force_login(account.user)
    rows = {
        "tenant": tenant,
        "provider": own,
        "connection": make_connection(shared, tenant=tenant),
        "link": create_link(shared, {"sales_channel_id": tenant.pk}),
        "partner": make_partner(tenant),
        "key": make_key(tenant=tenant, scopes=[]).key,
        "endpoint": endpoint,
        "delivery": make_delivery(endpoint),
        "webhook_event": make_webhook_event(own),
        "run": make_run(tenant),
        "account": account,
        "session": account.sessions.get(),
        "blog": make_blog(tenant),
        "affiliate": make_affiliate(tenant),
        "model": make_ai_model(tenant),
        "feature_request": make_feature_request(tenant),
        "contact_message": make_message(tenant),
    }
    return Household(tenant, {kind: str(row.pk) for kind, row in rows.items()})


class Houses:
    """Two tenants, the ids of the first and of the second, and ids of rows that never were."""

    def __init__(self) -> None:
        self.shared = make_provider(slug="shared")
        mine, theirs = _household(self.shared), _household(self.shared)
        self.mine, self.theirs = mine.ids, theirs.ids
        self.missing = {kind: f"{value.rpartition('_')[0]}_{'0' * 26}" for kind, value in mine.ids.items()}
        self.client = bearer(make_key(tenant=mine.tenant, scopes=["*"]).token)

    def path_values(self, operation: DocumentedOperation) -> dict[str, str]:
        """My ids in the places of the path; connections and links are reached through the shared provider."""
        values = {name: self.mine[KINDS[name]] for name in operation.path_names}
        if len(values) > 1 or operation.id in THROUGH_THE_SHARED:
            values["reference"] = self.shared.pk
        return values

    def ask(self, operation: DocumentedOperation, path: str, body: Any = None, ids: Any = ()) -> tuple[int, str]:
        """Return status and answer, in which the ids that were sent, and what differs each time, are blanked out."""
        if body is None and operation.body is not None:
            body = BODIES.get(operation.id, {})
        response = (
            self.client.send(operation.method, path, body) if operation.method != "get" else self.client.get(path)
        )
        text = response.content.decode()
        for value in ids:
            text = text.replace(value, "ID")
        text = re.sub(r'"(requestId|request_id|timestamp)":\s*"[^"]*"', r'"\1":""', text)
        return response.status_code, text

    def try_out(self, operation: DocumentedOperation, path: str, body: Any = None) -> tuple[int, str]:
        """As `ask`, and whatever it changes is undone."""
        if operation.method == "get":
            return self.ask(operation, path)  # reading a secret leaves an event that nothing may undo
        with transaction.atomic():
            answer = self.ask(operation, path, body)
            transaction.set_rollback(True)
        return answer


@pytest.fixture
def houses(settings: Any) -> Houses:
    settings.SERVICE_API_RATE_LIMIT = settings.ADMIN_API_RATE_LIMIT = 100_000
    return Houses()


def _snapshot() -> list[Any]:
    models = (ExternalApi, ExternalApiConnection, Partner, ApiKey, Tenant, Account)
    return [list(model._default_manager.order_by("pk").values()) for model in models]


def test_every_route_is_documented_or_known() -> None:
    documented = {(operation.method, operation.path) for operation in operations()}
    assert {(method, path) for method, path in routes() if path not in UNDOCUMENTED} == documented


def test_every_place_for_an_id_is_known() -> None:
    unknown = [
        f"{operation}: {name}"
        for operation in operations()
        for name in (*operation.path_names, *_ids(operation.query), *_ids(operation.body or {}))
        if _snake(name) not in KINDS
    ]
    assert not unknown, "say in KINDS what these name"
    assert not [operation.id for operation in operations() if _ids(operation.body or {}) and operation.id not in BODIES]


def test_in_the_path(houses: Houses) -> None:
    before, wrong = _snapshot(), []
    for operation in operations():
        mine = houses.path_values(operation)
        for name in operation.path_names:
            kind = KINDS[name]
            foreign, missing = (
                houses.ask(operation, operation.at(**mine | {name: ids[kind]}), ids=[ids[kind]])
                for ids in (houses.theirs, houses.missing)
            )
            wrong += [f"{operation} {name}: {foreign} and {missing}"] * (foreign != missing or foreign[0] != 404)
        if operation.path_names:
            # Mine gets another answer, or nothing would have been shown above.
            status, answer = houses.try_out(operation, operation.at(**mine))
            wrong += [f"{operation} of mine: {answer}"] * (status in (404, 405, 500))
    assert not wrong
    assert _snapshot() == before


def test_a_foreign_provider_with_what_is_under_it(houses: Houses) -> None:
    theirs = ExternalApiConnection.objects.get(external_api=houses.theirs["provider"])
    link = create_link(theirs.external_api, {})
    ids = {"reference": theirs.external_api_id, "connection_reference": theirs.pk, "link_id": link.pk}
    ids |= {"endpoint_id": houses.theirs["endpoint"], "delivery_id": houses.theirs["delivery"]}
    ids |= {"user_id": houses.theirs["account"], "session_id": houses.theirs["session"]}
    found = [operation for operation in operations() if len(operation.path_names) > 1]
    assert found
    assert {houses.ask(operation, operation.at(**ids))[0] for operation in found} == {404}


def test_in_the_body(houses: Houses) -> None:
    before, wrong = _snapshot(), []
    for operation in operations():
        path, good = operation.at(**houses.path_values(operation)), dict(BODIES.get(operation.id, {}))
        if "externalApiId" in (operation.body or {}):
            good["externalApiId"] = houses.shared.pk
        for name in _ids(operation.body or {}):
            kind = KINDS[_snake(name)]
            foreign, missing = (
                houses.ask(operation, path, {**good, name: _given(operation, name, ids[kind])}, ids=[ids[kind]])
                for ids in (houses.theirs, houses.missing)
            )
            is_refused = foreign[0] in (400, 403, 404)
            wrong += [f"{operation} {name}: {foreign} and {missing}"] * (foreign != missing or not is_refused)
            own = houses.try_out(operation, path, {**good, name: _given(operation, name, houses.mine[kind])})
            wrong += [f"{operation} {name} of mine: {own}"] * (own[0] not in (200, 201))
    assert not wrong
    assert _snapshot() == before


def test_in_a_filter(houses: Houses) -> None:
    """Any text may be an id, so every filter is tried with every kind of them."""
    wrong = []
    for operation in operations():
        url = operation.at(**houses.path_values(operation))
        for name, schema in operation.query.items():
            if "enum" in schema or schema.get("type", "string") != "string":
                continue
            for kind, value in houses.theirs.items():
                foreign, missing = (
                    houses.ask(operation, f"{url}?{name}={given}", ids=[given])
                    for given in (value, houses.missing[kind])
                )
                is_known = operation.id not in FILTERED_BY_WHAT_THERE_IS or foreign[0] in (400, 404)
                wrong += [f"{operation} {name}: {foreign} and {missing}"] * (foreign != missing or not is_known)
    assert not wrong
    # Mine are found, or nothing would have been shown above.
    AiCall.objects.create(tenant_id=houses.mine["tenant"], model_id="aim_1", connection_id=houses.mine["connection"])
    roll_up()
    for operation in operations():
        for name in _ids(operation.query) if operation.id in FILTERED_BY_WHAT_THERE_IS else ():
            given = f"{name}={houses.mine[KINDS[_snake(name)]]}"
            status, answer = houses.ask(operation, f"{operation.at(**houses.path_values(operation))}?{given}")
            wrong += [f"{operation} {name} of mine: {answer}"] * (status == 404)
    assert not wrong


def test_nothing_of_theirs_is_ever_shown(houses: Houses) -> None:
    wrong = []
    for operation in operations():
        if operation.method == "get":
            status, answer = houses.ask(operation, operation.at(**houses.path_values(operation)))
            shown = [value for value in houses.theirs.values() if value in answer]
            wrong += [f"{operation}: {status} {shown}"] * (bool(shown) or status in (405, 500))
    assert not wrong


def _given(operation: DocumentedOperation, name: str, value: str) -> Any:
    """An id as a field takes it, which may want a list of them."""
    return [value] if (operation.body or {})[name].get("type") == "array" else value


def _ids(fields: Mapping[str, Any]) -> list[str]:
    """Names that say that they hold an id, or a list of them."""
    return [
        name
        for name in fields
        if name not in NO_REFERENCES and (_snake(name).endswith(("_id", "_ids", "_reference")) or name == "ids")
    ]


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda found: f"_{found[1].lower()}", name).removesuffix("s")
