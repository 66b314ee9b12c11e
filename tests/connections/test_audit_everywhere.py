"""Every way to change something writes one event, in the transaction of the change: no event, no change.

The tables below name every route that changes something, every page of the admin and every command of ours; a new one
that is in none of them fails here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.core.management import call_command, get_commands
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.urls import URLResolver, get_resolver
from django.utils import timezone
from django.views.generic import RedirectView

from connections.models import (
    ExternalApiConnection,
    ExternalApiCredential,
    Grant,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookEvent,
    WorkflowRun,
)
from connections.oauth.recovery import Recovered, recover
from connections.oauth.sweep import sweep
from connections.services import delete_connection
from external_apis import catalogue, keys, request_context, valkey
from external_apis.backoffice.models import (
    Affiliate,
    AiModel,
    Blog,
    ContactMessage,
    FeatureRequest,
    Plan,
    UserSession,
    Withdrawal,
)
from external_apis.models import Account, ApiKey, AuditEvent, ExternalApi, Partner, Tenant
from external_apis.providers import delete_external_api
from tests.affiliates import make_affiliate, make_withdrawal
from tests.ai_models import make_ai_model
from tests.backoffice_users import make_account, make_plan, make_session
from tests.connections.test_admin_connections import changed as changed_connection
from tests.connections.test_admin_connections import posted as connection_form
from tests.content import make_blog, make_feature_request, make_message
from tests.envelope import EXTERNAL
from tests.external_apis.test_admin_api_keys import posted as key_form
from tests.external_apis.test_admin_providers import posted as provider_form
from tests.factories import (
    make_connection,
    make_key,
    make_partner,
    make_provider,
    make_tenant,
    make_user,
    provider_body,
)
from tests.grants import make_granted, oauth2_config, secrets_of, stored
from tests.inbound import make_webhook_event
from tests.rest import PROVIDERS, with_key
from tests.token_server import TokenServer, token_server
from tests.webhook_receiver import make_delivery, make_endpoint
from tests.workflow_runs import SMS, make_failed_run, make_run

SERVICES = "/exsvc/api/v1/services"


@pytest.fixture(autouse=True)
def _forget_limits() -> None:
    for key in valkey.client().scan_iter(f"{valkey.PREFIX}limit:*", count=1_000):
        valkey.client().delete(key)


@dataclass(frozen=True)
class World:
    """Rows that routes can be asked for; placeholders of paths are named after them."""

    provider: ExternalApi
    connection: ExternalApiConnection
    granted: ExternalApiConnection
    tenant: Tenant
    partner: Partner
    key: ApiKey
    dead_key: ApiKey
    dead_provider: ExternalApi
    dead_connection: ExternalApiConnection
    endpoint: WebhookEndpoint
    delivery: WebhookDelivery
    webhook_event: WebhookEvent
    run: WorkflowRun
    failed_run: WorkflowRun
    blog: Blog
    feature_request: FeatureRequest
    contact_message: ContactMessage
    model: AiModel
    affiliate: Affiliate
    withdrawal: Withdrawal
    account: Account
    session: UserSession
    plan: Plan

    def path(self, pattern: str) -> str:
        return pattern.format(**{name: row.pk for name, row in vars(self).items()})


@pytest.fixture
def world() -> World:
    api = make_provider(slug="ours")
    dead = make_key().key
    keys.revoke(dead)
    config = oauth2_config("https://auth.example.com")
    granted = make_connection(make_provider(api_config=config), credentials={"access_token": "swordfish"})
    gone, gone_too = make_provider(slug="gone"), make_connection(make_provider())
    delete_external_api(gone)
    delete_connection(gone_too)
    return World(
        make_provider(),
        make_connection(api),
        granted,
        make_tenant(),
        make_partner(),
        make_key().key,
        dead,
        gone,
        gone_too,
        endpoint := make_endpoint(None),
        make_delivery(endpoint),
        make_webhook_event(),
        make_run(),
        make_failed_run(undo="failed"),
        make_blog(),
        make_feature_request(),
        make_message(),
        make_ai_model(),
        make_affiliate(),
        make_withdrawal(left=5),
        account := make_account(),
        make_session(account),
        make_plan(),
    )


_HOOKS = f"{EXTERNAL}/webhook-endpoints"
_KEY = {"title": "K", "type": "secret", "mode": "live", "scopes": ["*"]}
_NEW_PROVIDER = provider_body(slug="fresh")
_SERVICE = {"name": "Fresh", "type": "other", "base_url": "https://api.example.com"}
_ONE, _CONNECTION = f"{PROVIDERS}/{{provider}}", f"{PROVIDERS}/ours/connections/{{connection}}"

# Method and path as `_routes` tells them: the path to ask for, the body, and the event.
ROUTES: dict[tuple[str, str], tuple[str, Any, str]] = {
    ("post", "/admin/external-apis"): (PROVIDERS, _NEW_PROVIDER, "provider.created"),
    ("patch", "/admin/external-apis/<reference>"): (_ONE, {"name": "New"}, "provider.updated"),
    ("delete", "/admin/external-apis/<reference>"): (_ONE, None, "provider.deleted"),
    ("post", "/admin/external-apis/<reference>/connections"): (
        f"{_ONE}/connections", {"connection_name": "New"}, "connection.created",
    ),
    ("patch", "/admin/external-apis/<reference>/connections/<connection_reference>"): (
        _CONNECTION, {"credentials": {"access_token": "new"}}, "connection.updated",
    ),
    ("delete", "/admin/external-apis/<reference>/connections/<connection_reference>"): (
        _CONNECTION, None, "connection.deleted",
    ),
    ("post", "/admin/external-apis/<reference>/connections/<connection_reference>/test"): (
        f"{_CONNECTION}/test", None, "connection.tested",
    ),
    ("post", "/api/external/api-keys"): (f"{EXTERNAL}/api-keys", _KEY, "api_key.created"),
    ("patch", "/api/external/api-keys/<key_id>"): (f"{EXTERNAL}/api-keys/{{key}}", {"title": "N"}, "api_key.updated"),
    ("delete", "/api/external/api-keys/<key_id>"): (f"{EXTERNAL}/api-keys/{{dead_key}}", None, "api_key.deleted"),
    ("post", "/api/external/api-keys/<key_id>/revoke"): (
        f"{EXTERNAL}/api-keys/{{key}}/revoke", None, "api_key.revoked",
    ),
    ("post", "/api/external/system/cache/clear"): (f"{EXTERNAL}/system/cache/clear", None, "cache.cleared"),
    ("post", "/api/external/providers"): (
        f"{EXTERNAL}/providers",
        {"apiConfig": _NEW_PROVIDER["api_config"], "name": "N", "slug": "new", "category": "other"},
        "provider.created",
    ),
    ("patch", "/api/external/providers/<reference>"): (
        f"{EXTERNAL}/providers/{{provider}}", {"name": "New"}, "provider.updated",
    ),
    ("delete", "/api/external/providers/<reference>"): (
        f"{EXTERNAL}/providers/{{provider}}", None, "provider.deleted",
    ),
    ("post", "/api/external/connections"): (
        f"{EXTERNAL}/connections", {"externalApiId": "ours", "connectionName": "New"}, "connection.created",
    ),
    ("patch", "/api/external/connections/<connection_id>"): (
        f"{EXTERNAL}/connections/{{connection}}", {"note": "New"}, "connection.updated",
    ),
    ("delete", "/api/external/connections/<connection_id>"): (
        f"{EXTERNAL}/connections/{{connection}}", None, "connection.deleted",
    ),
    ("post", "/api/external/connections/<connection_id>/revoke"): (
        f"{EXTERNAL}/connections/{{granted}}/revoke", None, "connection.revoked",
    ),
    ("post", "/api/external/connections/<connection_id>/test"): (
        f"{EXTERNAL}/connections/{{connection}}/test", None, "connection.tested",
    ),
    ("post", _HOOKS): (_HOOKS, {"url": "https://hooks.example.com/new"}, "webhook_endpoint.created"),
    ("patch", f"{_HOOKS}/<endpoint_id>"): (
        f"{_HOOKS}/{{endpoint}}", {"events": ["grant.*"]}, "webhook_endpoint.updated",
    ),
    ("delete", f"{_HOOKS}/<endpoint_id>"): (f"{_HOOKS}/{{endpoint}}", None, "webhook_endpoint.deleted"),
    ("post", f"{_HOOKS}/<endpoint_id>/roll-secret"): (
        f"{_HOOKS}/{{endpoint}}/roll-secret", {"overlapSeconds": 60}, "webhook_endpoint.secret_rolled",
    ),
    ("post", f"{_HOOKS}/<endpoint_id>/test"): (f"{_HOOKS}/{{endpoint}}/test", None, "webhook_endpoint.tested"),
    ("post", f"{_HOOKS}/<endpoint_id>/replay"): (
        f"{_HOOKS}/{{endpoint}}/replay", {"since": "2026-01-01T00:00:00Z"}, "webhook_endpoint.replayed",
    ),
    ("post", f"{_HOOKS}/<endpoint_id>/deliveries/<delivery_id>/replay"): (
        f"{_HOOKS}/{{endpoint}}/deliveries/{{delivery}}/replay", None, "webhook_endpoint.replayed",
    ),
    ("delete", "/api/external/users/<user_id>"): (f"{EXTERNAL}/users/{{account}}", None, "user.deleted"),
    ("patch", "/api/external/users/<user_id>/plan"): (
        f"{EXTERNAL}/users/{{account}}/plan", {"plan": "free"}, "user.plan_changed",
    ),
    ("patch", "/api/external/users/<user_id>/tokens"): (
        f"{EXTERNAL}/users/{{account}}/tokens", {"tokens": 5, "operation": "add"}, "user.tokens_changed",
    ),
    ("delete", "/api/external/users/<user_id>/sessions/<session_id>"): (
        f"{EXTERNAL}/users/{{account}}/sessions/{{session}}", None, "user.session_ended",
    ),
    ("post", "/api/external/tenants"): (f"{EXTERNAL}/tenants", {"name": "A", "slug": "a"}, "tenant.created"),
    ("patch", "/api/external/tenants/<tenant_id>"): (
        f"{EXTERNAL}/tenants/{{tenant}}", {"isActive": False}, "tenant.updated",
    ),
    ("delete", "/api/external/tenants/<tenant_id>"): (f"{EXTERNAL}/tenants/{{tenant}}", None, "tenant.deleted"),
    ("post", "/api/external/partners"): (f"{EXTERNAL}/partners", {"name": "A", "slug": "a"}, "partner.created"),
    ("patch", "/api/external/partners/<partner_id>"): (
        f"{EXTERNAL}/partners/{{partner}}", {"name": "New"}, "partner.updated",
    ),
    ("delete", "/api/external/partners/<partner_id>"): (
        f"{EXTERNAL}/partners/{{partner}}", None, "partner.deleted",
    ),
    ("post", "/api/external/webhook-events/<webhook_event_id>/replay"): (
        f"{EXTERNAL}/webhook-events/{{webhook_event}}/replay", None, "webhook.replayed",
    ),
    ("post", "/api/external/workflows"): (
        f"{EXTERNAL}/workflows", {"name": "send-sms", "input": SMS}, "workflow_run.started",
    ),
    ("post", "/api/external/workflows/runs/<run_id>/cancel"): (
        f"{EXTERNAL}/workflows/runs/{{run}}/cancel", None, "workflow_run.cancel_requested",
    ),
    ("post", "/api/external/workflows/runs/<run_id>/retry"): (
        f"{EXTERNAL}/workflows/runs/{{failed_run}}/retry", None, "workflow_run.retried",
    ),
    ("post", f"{EXTERNAL}/blogs"): (f"{EXTERNAL}/blogs", {"title": "New"}, "blog.created"),
    ("patch", f"{EXTERNAL}/blogs/<blog_id>"): (f"{EXTERNAL}/blogs/{{blog}}", {"title": "N"}, "blog.updated"),
    ("delete", f"{EXTERNAL}/blogs/<blog_id>"): (f"{EXTERNAL}/blogs/{{blog}}", None, "blog.deleted"),
    ("patch", f"{EXTERNAL}/feature-requests/<feature_request_id>"): (
        f"{EXTERNAL}/feature-requests/{{feature_request}}", {"status": "done"}, "feature_request.updated",
    ),
    ("delete", f"{EXTERNAL}/contact-messages/<contact_message_id>"): (
        f"{EXTERNAL}/contact-messages/{{contact_message}}", None, "contact_message.deleted",
    ),
    ("post", f"{EXTERNAL}/models"): (f"{EXTERNAL}/models", {"name": "new"}, "ai_model.created"),
    ("patch", f"{EXTERNAL}/models/<model_id>"): (
        f"{EXTERNAL}/models/{{model}}", {"label": "New"}, "ai_model.updated",
    ),
    ("delete", f"{EXTERNAL}/affiliates/<affiliate_id>"): (
        f"{EXTERNAL}/affiliates/{{affiliate}}", None, "affiliate.deleted",
    ),
    ("delete", f"{EXTERNAL}/models/<model_id>"): (f"{EXTERNAL}/models/{{model}}", None, "ai_model.deleted"),
    ("post", "/exsvc/api/v1/services"): (SERVICES, _SERVICE, "provider.created"),
    ("patch", "/exsvc/api/v1/services/<service_id>"): (
        f"{SERVICES}/{{provider}}", {"description": "New"}, "provider.updated",
    ),
    ("put", "/exsvc/api/v1/services/<service_id>"): (f"{SERVICES}/{{provider}}", _SERVICE, "provider.updated"),
    ("delete", "/exsvc/api/v1/services/<service_id>"): (f"{SERVICES}/{{provider}}", None, "provider.deleted"),
}  # fmt: skip

# Those that change nothing, or write their event in a test of their own.
OTHER_ROUTES = {
    ("post", "/api/external/workflows/runs/<run_id>/take"): "tests/connections/workflows",
    ("post", "/api/external/auth/validate"): "makes a token and stores nothing",
    ("put", "/api/external/withdrawals"): "tests/external_apis/backoffice/test_withdrawals.py",
    ("post", "/api/external/models/reorder"): "tests/external_apis/backoffice/test_ai_models.py",
    ("post", "/api/external/models/<model_id>/chat"): "a call, which the ledger tells of where somebody is charged",
    ("post", "/api/external/api-keys/verify"): "tells of a key",
    ("post", "/api/external/system/tests"): "leaves nothing behind",
    ("post", "/api/external/api-keys/<key_id>/roll"): "two events: below",
    ("put", "/exsvc/api/v1/services/<service_id>/credentials"): "tests/connections/service_api",
    ("post", "/api/external/connections/<connection_id>/refresh"): "below",
    ("post", "/admin/external-apis/<reference>/connections/<connection_reference>/refresh"): "below",
    ("post", "/admin/external-apis/<reference>/connections/<connection_reference>/revoke"): "the same service as above",
    ("post", "/admin/external-apis/<reference>/connect-links"): "below",
    ("post", "/connect/<token>"): "tests/connections/test_connect_links.py",
    ("post", "/contact"): "tests/external_apis/backoffice/test_contact_messages.py",
    ("post", "/contact/<slug:tenant_slug>"): "the same view",
    ("post", "/admin/external-apis/<reference>/oauth/callback"): "keeps an answer for the program that finishes it",
    ("post", "/api/admin/oauth/<reference>/callback"): "the same view",
}


def _routes() -> Iterator[tuple[str, str]]:
    """Method and path of every route outside of the admin that may change something."""

    def walk(patterns: Any, path: str) -> Iterator[tuple[str, str]]:
        for pattern in patterns:
            inside = path + str(pattern.pattern).replace("str:", "")
            if isinstance(pattern, URLResolver):
                if pattern.app_name != "admin":
                    yield from walk(pattern.url_patterns, inside)
                continue
            view = getattr(pattern.callback, "cls", None) or getattr(pattern.callback, "view_class", None)
            if view is not None and issubclass(view, RedirectView):
                continue  # it sends elsewhere and changes nothing
            yield from ((method, inside) for method in ("post", "put", "patch", "delete") if hasattr(view, method))

    return walk(get_resolver().url_patterns, "/")


def test_every_route_is_in_a_table() -> None:
    assert set(_routes()) == set(ROUTES) | set(OTHER_ROUTES)


def _content() -> dict[str, Any]:
    """A fingerprint of every table but the audit log."""
    tables = sorted({model._meta.db_table for model in apps.get_models(include_auto_created=True)})
    one = """SELECT '{0}', md5(string_agg(t::text, '|' ORDER BY t::text)) FROM "{0}" AS t"""
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(one.format(table) for table in tables if table != AuditEvent._meta.db_table))
        return dict(cursor.fetchall())


@contextmanager
def _refusing_events() -> Iterator[None]:
    """The database takes no event."""
    table = AuditEvent._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE OR REPLACE FUNCTION refuse_event() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'no event is taken'; END $$"
        )
        cursor.execute(f"CREATE TRIGGER refuse BEFORE INSERT ON {table} EXECUTE FUNCTION refuse_event()")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TRIGGER refuse ON {table}")


def _check(act: Callable[[], int], action: str, *, actor: str, is_refused: Callable[[int], bool]) -> None:
    """Without the event nothing changes; else something does, and there is one event."""
    AuditEvent.objects.all().delete()
    before = _content()
    with _refusing_events():
        try:
            with transaction.atomic():
                refused = is_refused(act())
        except DatabaseError:  # a command tells whoever typed it
            refused = True
    assert refused
    assert _content() == before
    assert act() < 400
    events = [(event.action, event.actor) for event in AuditEvent.objects.all()]
    assert events == [(action, actor)]


@pytest.mark.django_db
@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
def test_a_change_over_rest_and_its_event(route: tuple[str, str], world: World) -> None:
    path, body, action = ROUTES[route]
    seen: list[Any] = []

    def act() -> int:
        seen.append(with_key().send(route[0], world.path(path), body))
        return int(seen[-1].status_code)

    _check(act, action, actor="key:ADMIN_API_KEY", is_refused=lambda status: status >= 500)
    event = AuditEvent.objects.get()
    assert event.request_id == seen[-1]["X-Request-Id"]
    assert (event.api_key_id, event.address) == ("ADMIN_API_KEY", "127.0.0.1")


@pytest.mark.django_db
def test_rolling_tells_of_both_keys(world: World) -> None:
    AuditEvent.objects.all().delete()
    with_key().send("post", f"{EXTERNAL}/api-keys/{world.key.pk}/roll", {"overlapSeconds": 5})
    assert world.key.pk in AuditEvent.objects.values_list("object_id", flat=True)


@pytest.fixture
def server(settings: Any, tmp_path: Path) -> Iterator[TokenServer]:
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    settings.SPOOL_DIR = str(tmp_path / "spool")
    with token_server() as started:
        yield started


def _let_end(row: ExternalApiConnection) -> None:
    Grant.objects.filter(pk=row.pk).update(due_at=timezone.now())
    ExternalApiCredential.objects.filter(pk=row.pk).update(expires_at=timezone.now())


def _check_renewal(act: Callable[[], object], row: ExternalApiConnection, server: TokenServer, actor: str) -> None:
    """Without its event a renewal changes nothing and its answer waits in the spool; both come in together."""
    _let_end(row)
    before = secrets_of(row)
    with _refusing_events(), suppress(DatabaseError):
        act()
    assert secrets_of(row) == before
    assert recover() == Recovered(kept=1)  # whoever asked might still be at it
    Grant.objects.filter(pk=row.pk).update(leased_until=timezone.now())
    with request_context.acting("system"):
        assert recover() == Recovered(applied=1)
    assert secrets_of(row)["access_token"] != before["access_token"]
    _let_end(row)
    act()
    recovered, asked = AuditEvent.objects.filter(object_id=row.pk, action="connection.refreshed").order_by("pk")
    assert (recovered.actor, asked.actor) == ("system", actor)
    fingerprint = stored(row).credential.fingerprints["access_token"]
    assert asked.changes["credentials.secret_fingerprints.access_token"][1] == fingerprint
    assert recovered.changes["credentials.secret_fingerprints.access_token"][0] != fingerprint
    assert secrets_of(row)["access_token"] not in str([recovered.changes, asked.changes])
    assert len([request for request in server.requests if "grant_type" in request]) == 2


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("what", ["refresh", "test"])
def test_a_renewal_over_rest(what: str, server: TokenServer) -> None:
    row = make_granted(server)

    def act() -> None:
        with_key().send("post", f"{EXTERNAL}/connections/{row.pk}/{what}")

    _check_renewal(act, row, server, "key:ADMIN_API_KEY")


@pytest.mark.django_db(transaction=True)
def test_a_renewal_by_the_sweep(server: TokenServer) -> None:
    row = make_granted(server)
    with request_context.acting("task:sweep"):
        _check_renewal(sweep, row, server, "task:sweep")


@pytest.mark.django_db
def test_connect_links(world: World) -> None:
    AuditEvent.objects.all().delete()
    response = with_key().send("post", f"{PROVIDERS}/ours/connect-links", {})
    assert response.status_code == 201, response.content
    assert [event.action for event in AuditEvent.objects.all()] == ["connect_link.created"]


# --- the admin ----------------------------------------------------------------------------------------------------


def _add(model: str, **data: Any) -> Callable[[Client, World], Any]:
    return lambda client, world: client.post(f"/admin/{model}/add/", data)


def _change(model: str, row: Callable[[World], Any], **data: Any) -> Callable[[Client, World], Any]:
    return lambda client, world: client.post(f"/admin/{model}/{row(world).pk}/change/", data)


def _delete(model: str, row: Callable[[World], Any]) -> Callable[[Client, World], Any]:
    return lambda client, world: client.post(f"/admin/{model}/{row(world).pk}/delete/", {"post": "yes"})


def _press(model: str, row: Callable[[World], Any], button: str, **data: Any) -> Callable[[Client, World], Any]:
    return lambda client, world: client.post(f"/admin/{model}/{row(world).pk}/{button}/", data)


def _choose(model: str, action: str, row: Callable[[World], Any]) -> Callable[[Client, World], Any]:
    return lambda client, world: client.post(
        f"/admin/{model}/" + ("?deleted=yes" if action == "restore_selected" else ""),
        {"action": action, "_selected_action": [row(world).pk], "post": "yes"},
    )


def _user(world: World) -> User:
    return User.objects.get(username="somebody")


def _group(world: World) -> Group:
    return Group.objects.get(name="some")


_PASSWORD = {"password1": "a long enough one 1", "password2": "a long enough one 1"}
_NEW_USER = {"username": "new", "usable_password": "true", **_PASSWORD}
_CHANGED_USER = {
    "username": "somebody",
    "is_staff": "on",
    "is_active": "on",
    "date_joined_0": "2026-01-01",
    "date_joined_1": "00:00:00",
}

_HOOK = "connections/webhookendpoint"
_RUN = "connections/workflowrun"

_AFFILIATE = "backoffice/affiliate"
_ACCOUNT, _PLAN = "external_apis/account", "backoffice/plan"
_NEW_AFFILIATE = {
    "code": "new",
    "name": "New",
    "email": "new@example.com",
    "commission_basis_points": "1000",
    "status": "active",
}


def _ask_for_withdrawal(client: Client, world: World) -> Any:
    wanted = {"affiliate": world.withdrawal.affiliate_id, "amount_minor": "5"}
    return client.post("/admin/backoffice/withdrawal/add/", wanted)


# By model: what is sent, and the event of it.
PAGES: dict[str, list[tuple[Callable[[Client, World], Any], str]]] = {
    "external_apis.Tenant": [
        (_add("external_apis/tenant", name="A", slug="a", is_active="on"), "tenant.created"),
        (_change("external_apis/tenant", lambda w: w.tenant, name="B", slug="b"), "tenant.updated"),
        (_delete("external_apis/tenant", lambda w: w.tenant), "tenant.deleted"),
        (_choose("external_apis/tenant", "delete_selected", lambda w: w.tenant), "tenant.deleted"),
    ],
    "external_apis.Partner": [
        (_add("external_apis/partner", name="A", slug="a"), "partner.created"),
        (_change("external_apis/partner", lambda w: w.partner, name="B", slug="b"), "partner.updated"),
        (_delete("external_apis/partner", lambda w: w.partner), "partner.deleted"),
    ],
    "external_apis.Account": [
        (_change(_ACCOUNT, lambda w: w.account, plan="free"), "user.plan_changed"),
        (
            lambda client, world: client.post(
                f"/admin/{_ACCOUNT}/{world.account.pk}/change/", {"tenant": world.tenant.pk, "plan": ""}
            ),
            "account.updated",
        ),
        (_press(_ACCOUNT, lambda w: w.account, "tokens", operation="add", tokens="5"), "user.tokens_changed"),
        (
            lambda client, world: client.post(f"/admin/{_ACCOUNT}/{world.account.pk}/sessions/{world.session.pk}/end/"),
            "user.session_ended",
        ),
        (_delete(_ACCOUNT, lambda w: w.account), "user.deleted"),
    ],
    "backoffice.Plan": [
        (_add(_PLAN, name="New", slug="new", tokens="1", price_minor="1", currency="EUR"), "plan.created"),
        (
            _change(_PLAN, lambda w: w.plan, name="Other", tokens="1", price_minor="1", currency="EUR"),
            "plan.updated",
        ),
        (_delete(_PLAN, lambda w: w.plan), "plan.deleted"),
        (_choose(_PLAN, "delete_selected", lambda w: w.plan), "plan.deleted"),
    ],
    "auth.User": [
        (_add("auth/user", **_NEW_USER), "user.created"),
        (_change("auth/user", _user, **_CHANGED_USER), "user.updated"),
        (
            lambda client, world: client.post(f"/admin/auth/user/{_user(world).pk}/password/", _PASSWORD),
            "user.password_changed",
        ),
        (_delete("auth/user", _user), "user.deleted"),
        (_choose("auth/user", "delete_selected", _user), "user.deleted"),
    ],
    "auth.Group": [
        (_add("auth/group", name="new"), "group.created"),
        (_change("auth/group", _group, name="other"), "group.updated"),
        (_delete("auth/group", _group), "group.deleted"),
    ],
    "external_apis.ExternalApi": [
        (_add("external_apis/externalapi", **provider_form(slug="new")), "provider.created"),
        (_change("external_apis/externalapi", lambda w: w.provider, **provider_form(slug="other")), "provider.updated"),
        (_press("external_apis/externalapi", lambda w: w.dead_provider, "restore"), "provider.restored"),
        (_choose("external_apis/externalapi", "restore_selected", lambda w: w.dead_provider), "provider.restored"),
        (_delete("external_apis/externalapi", lambda w: w.provider), "provider.deleted"),
        (_choose("external_apis/externalapi", "delete_selected", lambda w: w.provider), "provider.deleted"),
    ],
    "connections.ExternalApiConnection": [
        (
            lambda client, world: client.post(
                f"/admin/connections/externalapiconnection/add/?external_api={world.provider.pk}",
                connection_form(**{"credentials.access_token": "swordfish"}),
            ),
            "connection.created",
        ),
        (
            _change(
                "connections/externalapiconnection",
                lambda w: w.connection,
                **changed_connection(**{"credentials.access_token": "swordfish"}),
            ),
            "connection.updated",
        ),
        (
            _press("connections/externalapiconnection", lambda w: w.dead_connection, "restore"),
            "connection.restored",
        ),
        (
            _choose("connections/externalapiconnection", "restore_selected", lambda w: w.dead_connection),
            "connection.restored",
        ),
        (_delete("connections/externalapiconnection", lambda w: w.connection), "connection.deleted"),
        (_press("connections/externalapiconnection", lambda w: w.connection, "test"), "connection.tested"),
        (_press("connections/externalapiconnection", lambda w: w.granted, "revoke"), "connection.revoked"),
    ],
    "external_apis.ApiKey": [
        (_add("external_apis/apikey", **key_form(scopes=["proxy"])), "api_key.created"),
        (_change("external_apis/apikey", lambda w: w.key, **key_form(title="Other")), "api_key.updated"),
        (_choose("external_apis/apikey", "revoke_selected", lambda w: w.key), "api_key.revoked"),
        (_delete("external_apis/apikey", lambda w: w.dead_key), "api_key.deleted"),
        (_choose("external_apis/apikey", "delete_selected", lambda w: w.dead_key), "api_key.deleted"),
    ],
    "connections.WorkflowRun": [
        (_add(_RUN, name="send-sms", input=json.dumps(SMS)), "workflow_run.started"),
        (_press(_RUN, lambda w: w.run, "cancel"), "workflow_run.cancel_requested"),
        (_press(_RUN, lambda w: w.failed_run, "retry"), "workflow_run.retried"),
    ],
    "connections.WebhookEvent": [
        (_press("connections/webhookevent", lambda w: w.webhook_event, "replay"), "webhook.replayed"),
        (_choose("connections/webhookevent", "replay_selected", lambda w: w.webhook_event), "webhook.replayed"),
    ],
    "connections.WebhookEndpoint": [
        (_add(_HOOK, url="https://hooks.example.com/", events=["*"]), "webhook_endpoint.created"),
        (
            _change(_HOOK, lambda w: w.endpoint, url="https://hooks.example.com/", events=["grant.*"]),
            "webhook_endpoint.updated",
        ),
        (_delete(_HOOK, lambda w: w.endpoint), "webhook_endpoint.deleted"),
        (_choose(_HOOK, "delete_selected", lambda w: w.endpoint), "webhook_endpoint.deleted"),
        (_press(_HOOK, lambda w: w.endpoint, "test"), "webhook_endpoint.tested"),
        (_press(_HOOK, lambda w: w.endpoint, "roll", overlap_seconds="60"), "webhook_endpoint.secret_rolled"),
        (
            _press(_HOOK, lambda w: w.endpoint, "replay", since_0="2026-01-01", since_1="00:00:00"),
            "webhook_endpoint.replayed",
        ),
    ],
    "backoffice.Affiliate": [
        (_add(_AFFILIATE, **_NEW_AFFILIATE, currency="EUR"), "affiliate.created"),
        (_change(_AFFILIATE, lambda w: w.affiliate, **_NEW_AFFILIATE), "affiliate.updated"),
        (_delete(_AFFILIATE, lambda w: w.affiliate), "affiliate.deleted"),
        (_choose(_AFFILIATE, "delete_selected", lambda w: w.affiliate), "affiliate.deleted"),
    ],
    "backoffice.Withdrawal": [
        (_ask_for_withdrawal, "withdrawal.requested"),
        (_press("backoffice/withdrawal", lambda w: w.withdrawal, "approve"), "withdrawal.approved"),
        (_press("backoffice/withdrawal", lambda w: w.withdrawal, "reject"), "withdrawal.rejected"),
    ],
    "backoffice.AiModel": [
        (_add("backoffice/aimodel", name="new"), "ai_model.created"),
        (_change("backoffice/aimodel", lambda w: w.model, name="new"), "ai_model.updated"),
        (_delete("backoffice/aimodel", lambda w: w.model), "ai_model.deleted"),
        (_choose("backoffice/aimodel", "delete_selected", lambda w: w.model), "ai_model.deleted"),
    ],
    "backoffice.Blog": [
        (_add("backoffice/blog", title="New", status="draft"), "blog.created"),
        (_change("backoffice/blog", lambda w: w.blog, title="N", slug="n", status="published"), "blog.updated"),
        (_delete("backoffice/blog", lambda w: w.blog), "blog.deleted"),
        (_choose("backoffice/blog", "delete_selected", lambda w: w.blog), "blog.deleted"),
    ],
    "backoffice.FeatureRequest": [
        (_add("backoffice/featurerequest", title="New"), "feature_request.created"),
        (
            _change("backoffice/featurerequest", lambda w: w.feature_request, title="Other", status="done"),
            "feature_request.updated",
        ),
        (_delete("backoffice/featurerequest", lambda w: w.feature_request), "feature_request.deleted"),
        (
            _choose("backoffice/featurerequest", "delete_selected", lambda w: w.feature_request),
            "feature_request.deleted",
        ),
    ],
    "backoffice.ContactMessage": [
        (_delete("backoffice/contactmessage", lambda w: w.contact_message), "contact_message.deleted"),
        (
            _choose("backoffice/contactmessage", "delete_selected", lambda w: w.contact_message),
            "contact_message.deleted",
        ),
    ],
}
# Of these the pages write nothing, or their tests tell of the events.
OTHER_PAGES = {"external_apis.CatalogueEntry": "read only", "connections.WebhookRefusal": "read only"}


@pytest.mark.django_db
def test_every_page_of_the_admin_is_in_a_table() -> None:
    assert {model._meta.label for model in admin.site._registry} == set(PAGES) | set(OTHER_PAGES)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("model", "number"), [(model, number) for model, acts in PAGES.items() for number in range(len(acts))]
)
def test_a_change_in_the_admin_and_its_event(model: str, number: int, world: World) -> None:
    send, action = PAGES[model][number]
    make_user("somebody")
    Group.objects.create(name="some")
    client = Client(raise_request_exception=False)
    client.force_login(make_user("operator", is_superuser=True))

    def act() -> int:
        response = send(client, world)
        # A form that is refused is shown again, with 200.
        shows_once = response.status_code == 200 and ("token" in response.context or "secret" in response.context)
        is_done = response.status_code == 302 or shows_once
        return 302 if is_done else 500 if response.status_code == 500 else 400

    _check(act, action, actor="user:operator", is_refused=lambda status: status >= 400)


@pytest.mark.django_db
def test_ones_own_password() -> None:
    user = make_user("operator", is_superuser=True)
    client = Client()
    client.force_login(user)
    sent = {"old_password": "wrong", "new_password1": "a long enough one 1", "new_password2": "a long enough one 1"}
    client.post("/admin/password_change/", sent)
    assert not AuditEvent.objects.exists()
    assert (
        client.post("/admin/password_change/", {**sent, "old_password": "a password of the tests"}).status_code == 302
    )
    event = AuditEvent.objects.get()
    assert (event.action, event.actor, event.changes) == ("user.password_changed", "user:operator", {})


@pytest.mark.django_db
def test_groups_of_a_user_are_told() -> None:
    group, user = Group.objects.create(name="some"), make_user("somebody")
    client = Client()
    client.force_login(make_user("operator", is_superuser=True))
    client.post(f"/admin/auth/user/{user.pk}/change/", {**_CHANGED_USER, "groups": [group.pk], "is_superuser": "on"})
    changes = AuditEvent.objects.get(action="user.updated").changes
    assert changes["groups"] == [[], ["some"]]
    assert changes["is_superuser"] == ["False", "True"]
    assert "password" not in changes


# --- commands -----------------------------------------------------------------------------------------------------

COMMANDS: dict[str, tuple[Callable[[World], Any], str, str]] = {
    "api_keys": (
        lambda world: call_command("api_keys", "revoke", world.key.pk),
        "api_key.revoked",
        "command:api_keys revoke",
    ),
    "tenants": (
        lambda world: call_command("tenants", "shred", world.tenant.slug, "--yes-really", world.tenant.slug),
        "tenant.shredded",
        "command:tenants shred",
    ),
    "seed_providers": (lambda world: call_command("seed_providers"), "catalogue.seeded", "command:seed_providers"),
    "rotate_encryption_keys": (
        lambda world: call_command("rotate_encryption_keys"),
        "encryption_keys.rotated",
        "command:rotate_encryption_keys",
    ),
    "createsuperuser": (
        lambda world: call_command("createsuperuser", "--noinput", "--username", "root", "--email", "r@example.com"),
        "user.created",
        "command:createsuperuser",
    ),
}
OTHER_COMMANDS = {
    "import_env": "tests/connections/imports",
    "import_django_oauth": "tests/connections/imports",
    "import_social_platforms": "tests/connections/imports",
    "run_workflow": "tests/connections/workflows",
    "webhooks": "tests/connections/webhooks/inbound",
    "backup": "tests/external_apis/backup",
    "restore": "tests/external_apis/backup",
    "changepassword": "below",
    "setup": "tests/config/test_setup.py",
    "call": "calls a provider",
    "providers": "below",
    "connect": "tests/connections/oauth/test_device.py",
    "connections": "shows",
    "exec": "tests/connections/remote: its readings are noted",
    "check_encryption_keys": "checks",
    "migrate": "changes no content",
    "up": "runs the others",
}


def test_every_command_of_ours_is_in_a_table() -> None:
    ours = {name for name, app in get_commands().items() if app in ("config", "connections", "external_apis")}
    assert ours - {"reset"} == set(COMMANDS) | set(OTHER_COMMANDS)


@pytest.mark.django_db
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_and_its_event(name: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run, action, actor = COMMANDS[name]
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "a long enough one 1")
    AuditEvent.objects.all().delete()
    before = _content()
    with _refusing_events(), pytest.raises(DatabaseError), transaction.atomic():
        run(world)
    assert _content() == before
    run(world)
    event = AuditEvent.objects.get(action=action)
    assert event.actor.startswith(actor)
    assert AuditEvent.objects.count() == 1


@pytest.mark.django_db
def test_a_provider_of_the_catalogue() -> None:
    catalogue.seed()
    AuditEvent.objects.all().delete()
    before = _content()
    with _refusing_events(), pytest.raises(DatabaseError), transaction.atomic():
        call_command("providers", "add", "trello", "--client-id", "abc")
    assert _content() == before
    call_command("providers", "add", "trello", "--client-id", "abc")
    event = AuditEvent.objects.get()
    assert (event.action, event.actor) == ("provider.created", "command:providers add")


@pytest.mark.django_db
def test_a_changed_password(monkeypatch: pytest.MonkeyPatch) -> None:
    make_user("somebody")
    monkeypatch.setattr("getpass.getpass", lambda prompt: "a long enough one 1")
    call_command("changepassword", "somebody")
    event = AuditEvent.objects.get()
    assert (event.action, event.actor) == ("user.password_changed", "command:changepassword")
    assert Account.objects.count() == 1
