"""A row of each kind with long values in it, and the addresses of the admin's pages about them."""

from __future__ import annotations

from datetime import timedelta

from django.contrib import admin
from django.contrib.auth.models import Group
from django.db.models import Model
from django.urls import reverse
from django.utils import timezone

from connections.models import (
    DeliveryAttempt,
    EventStatus,
    StepState,
    WebhookDelivery,
    WebhookRefusal,
    WorkflowStep,
)
from external_apis.models import Account
from tests.affiliates import make_affiliate, make_withdrawal
from tests.ai_models import make_ai_model
from tests.backoffice_users import make_plan
from tests.content import make_blog, make_feature_request, make_message
from tests.factories import make_connection, make_key, make_partner, make_tenant, make_user
from tests.inbound import make_webhook_event, webhook_provider
from tests.webhook_receiver import make_delivery, make_endpoint
from tests.workflow_runs import make_run

__all__ = ["addresses", "lists", "make_rows"]

_LONG = "unbroken" * 12
_ERROR = f"answered 500: https://hooks.example.com/{_LONG}"


def make_rows() -> list[Model]:
    """One of everything that has a page, as much of it as may be told."""
    tenant = make_tenant()
    api = webhook_provider(scheme="stripe", slug="long-name", tenant=tenant)
    user = make_user(tenant=tenant)
    event = make_webhook_event(
        api, event_id=f"evt_{_LONG}", event_type=f"payment.{_LONG}"[:100], status=EventStatus.DEAD, attempts=7,
        content={"body": f'{{"id": "{_LONG * 3}"}}', "content_type": "application/json"},
    )  # fmt: skip
    refusal = WebhookRefusal.objects.create(
        external_api=api, tenant=tenant, reason="secret", explanation=f"No secret fits: {_LONG}", count=3,
        first_at=timezone.now(), last_at=timezone.now(),
    )  # fmt: skip
    endpoint = make_endpoint(None, "*", tenant=tenant, url=f"https://hooks.example.com/{_LONG}", description=_LONG)
    _fail(make_delivery(endpoint))
    run = make_run(tenant, state="failed", error_code="STEP_FAILED", error_message=_ERROR, due_at=None)
    for position in (1, 2):
        WorkflowStep.objects.create(
            run=run, tenant=tenant, position=position, name=f"step_{position}", state=StepState.FAILED, tries=2,
            contents={"json": f'{{"input": null, "result": "{_LONG * 5}"}}'}, error_code="STEP_FAILED",
            error_message=_ERROR, started_at=timezone.now() - timedelta(seconds=1), finished_at=timezone.now(),
        )  # fmt: skip
    return [
        tenant,
        make_partner(tenant),
        user,
        Account.objects.get(user=user),
        make_plan(),
        Group.objects.create(name="Operators"),
        make_key(tenant=tenant, title=_LONG).key,
        api,
        make_connection(api, tenant=tenant, connection_name=_LONG[:100]),
        event,
        refusal,
        endpoint,
        run,
        make_ai_model(tenant, name=f"model-{_LONG}"),
        make_affiliate(tenant, balance=5, name=_LONG),
        make_withdrawal(tenant),
        make_blog(tenant, title=_LONG, body=f"# {_LONG * 3}", excerpt=_LONG, status="published"),
        make_feature_request(tenant, title=_LONG, description=_LONG * 5),
        make_message(tenant, name=_LONG, subject=_LONG, message=_LONG * 5),
    ]


def _fail(delivery: WebhookDelivery) -> None:
    WebhookDelivery.objects.filter(pk=delivery.pk).update(last_error=_ERROR, last_status=500, attempts=1)
    DeliveryAttempt.objects.create(
        delivery=delivery, tenant=delivery.tenant, url=delivery.endpoint.url, status=500, duration_ms=3, error=_ERROR,
        sent_at=timezone.now(), answer={"body": _LONG * 3},
    )  # fmt: skip


def lists() -> list[str]:
    """The addresses of the list of each model that has one."""
    return [reverse(f"admin:{model._meta.label_lower.replace('.', '_')}_changelist") for model in admin.site._registry]


def addresses(rows: list[Model]) -> dict[str, Model | None]:
    """All pages that can be opened, and the row that each is about, if it is about one."""
    found: dict[str, Model | None] = {"/admin/": None, **dict.fromkeys(lists())}
    for row in rows:
        page = reverse(f"admin:{row._meta.label_lower.replace('.', '_')}_change", args=[row.pk])
        found[page] = row
        for name in _SUB_PAGES.get(row._meta.model_name or "", ()):
            found[page.replace("/change/", f"/{name}/")] = row
    for name in ("connections/webhookendpoint", "connections/workflowrun", "external_apis/apikey"):
        found[f"/admin/{name}/add/"] = None
    endpoint = next(row for row in rows if row._meta.model_name == "webhookendpoint")
    delivery = WebhookDelivery.objects.get(endpoint_id=endpoint.pk)
    found[reverse("admin:connections_webhookendpoint_delivery", args=[endpoint.pk, delivery.pk])] = endpoint
    return found


_SUB_PAGES = {
    "blog": ("preview",),
    "account": ("tokens", "sessions"),
    "webhookendpoint": ("roll", "replay"),
    "apikey": ("revoke", "roll"),
    "aimodel": ("order", "usage"),
    "externalapi": ("history",),
    "externalapiconnection": ("history",),
}
