"""Webhook endpoints: where others are told of events; made, changed, and switched off when they fail for too long."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

import structlog
from django.conf import settings
from django.db import connection as database
from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import TruncHour
from django.utils import timezone
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool

from connections.models import DeliveryAttempt, DisabledReason, WebhookDelivery, WebhookEndpoint
from connections.wakeups import wake
from connections.webhooks.outbound import signing
from connections.webhooks.outbound.rhythm import GIVEN_UP_AFTER
from external_apis import audit
from external_apis.egress import current_policy
from external_apis.errors import Conflict, EgressRefused, InvalidInput, NotFound
from external_apis.event_types import EVERYTHING as ALL_EVENTS
from external_apis.event_types import check_filters
from external_apis.ids import can_name, first_id
from external_apis.models import Tenant
from external_apis.provider_input import RowId, read_body
from external_apis.tenancy import EVERYTHING, Scope
from external_apis.tenants import find_tenant
from external_apis.transport import Origin
from external_apis.url_rules import base_url_problem

__all__ = [
    "ENDPOINTS_AT_MOST",
    "MAX_OVERLAP_SECONDS",
    "PRUNING",
    "EndpointChanges",
    "EndpointInput",
    "WithSecret",
    "create",
    "delete",
    "find",
    "give_up_failing",
    "locked",
    "matching",
    "note_gone",
    "roll_secret",
    "update",
    "visible",
]

log = structlog.get_logger(__name__)

MAX_OVERLAP_SECONDS = 30 * 86_400

ENDPOINTS_AT_MOST = 50
"""How many a tenant may have, and how many there may be without one, as each event may be sent to all of them."""

PRUNING = "connections.prune_webhook_deliveries"


def _receiving_url(value: str) -> str:
    """Plain http is for the loopback, and for trying things out."""
    if problem := base_url_problem(value, https_only=False):
        raise ValueError(problem)
    if base_url_problem(value, https_only=not settings.DEBUG, loopback_may_be_http=True):
        raise ValueError("uses http: https is needed, but for the loopback, and for trying things out with DEBUG")
    if not value.isascii():
        raise ValueError("holds a character that has to be percent-encoded")
    try:
        origin = Origin.of(value)
        current_policy().check_host(origin.host, origin.port)
    except EgressRefused as error:
        raise ValueError(error.message) from None
    return value


Url = Annotated[str, Field(max_length=2000), AfterValidator(_receiving_url)]
Filters = Annotated[list[Annotated[str, Field(max_length=60)]], Field(min_length=1, max_length=100)]
Text = Annotated[str, Field(max_length=500)]


class EndpointInput(BaseModel):
    """What `create` takes."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    url: Url
    """https, without query; redirects are not followed."""
    events: Filters = [ALL_EVENTS]
    """Event types such as `connection.created`, groups of them such as `connection.*`, or `*`."""
    description: Text = ""
    tenant_id: RowId | None = None
    """The tenant whose events are sent there; without one the events of all."""


class EndpointChanges(BaseModel):
    """What `update` takes: what is not mentioned stays."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    url: Url = ""
    events: Filters = [ALL_EVENTS]
    """Replaced as a whole."""
    description: Text = ""
    is_enabled: StrictBool = True
    """False switches it off: nothing is sent, and what happens meanwhile is not kept for it."""


@dataclass(frozen=True)
class WithSecret:
    """An endpoint and its new secret, which nobody can look up afterwards. Its ``repr`` does not show it."""

    endpoint: WebhookEndpoint
    secret: str

    def __repr__(self) -> str:
        return f"<WithSecret {self.endpoint.pk}>"


def visible(scope: Scope) -> QuerySet[WebhookEndpoint]:
    """The endpoints that somebody of this scope sees: all, or the tenant's; a test key none, as they are live."""
    rows = WebhookEndpoint.objects.all()
    return rows.none() if scope.is_sandbox else scope.own(rows)


def matching(
    scope: Scope, *, is_enabled: bool | None = None, tenant_id: str = "", search: str = ""
) -> QuerySet[WebhookEndpoint]:
    """Those of the visible endpoints that are switched on or off, a tenant's, or named so, the latest first."""
    rows = visible(scope).order_by("-pk")
    if is_enabled is not None:
        rows = rows.filter(is_enabled=is_enabled)
    if tenant_id:
        rows = rows.filter(tenant_id=tenant_id)
    return rows.filter(Q(url__icontains=search) | Q(description__icontains=search)) if search else rows


def find(endpoint_id: str, scope: Scope = EVERYTHING) -> WebhookEndpoint:
    """Return an endpoint of the scope. Raises `NotFound`."""
    row = visible(scope).filter(pk=endpoint_id).first() if can_name(endpoint_id) else None
    if row is None:
        raise NotFound(f"Webhook endpoint {ascii(endpoint_id)[1:-1]} not found")
    return row


def create(data: Mapping[str, Any], scope: Scope = EVERYTHING) -> WithSecret:
    """Store an endpoint with a secret of its own; a tenant's own caller makes the tenant's alone.

    Raises `InvalidInput`, `NotFound` for a foreign tenant, and `Conflict` where there are `ENDPOINTS_AT_MOST`.
    """
    body = read_body(EndpointInput, data)
    events = check_filters(body.events)
    tenant_id = body.tenant_id or scope.tenant_id
    tenant = find_tenant(tenant_id, scope) if tenant_id else None
    row = WebhookEndpoint(tenant=tenant, url=body.url, events=events, description=body.description)
    row.secrets = signing.begin()
    with transaction.atomic():
        _check_room(tenant)
        row.save(force_insert=True)
        audit.record("webhook_endpoint.created", row, audit.changed_fields(row))
    return WithSecret(row, row.secrets[signing.CURRENT])


def update(row: WebhookEndpoint, data: Mapping[str, Any]) -> WebhookEndpoint:
    """Change an endpoint. One that is switched on, or has another URL, begins anew, with what still waits for it.

    Raises `InvalidInput`.
    """
    body = read_body(EndpointChanges, data)
    given = body.model_fields_set
    with transaction.atomic():
        row = locked(row)
        before = copy(row)
        for name in given - {"is_enabled", "events"}:
            setattr(row, name, getattr(body, name))
        if "events" in given:
            row.events = check_filters(body.events)
        if row.url != before.url:
            _forget_health(row)
        if "is_enabled" in given and body.is_enabled != row.is_enabled:
            _switch(row, DisabledReason.BY_HAND if not body.is_enabled else None)
        row.save()
        audit.record("webhook_endpoint.updated", row, audit.changed_fields(row, before))
    return row


def roll_secret(row: WebhookEndpoint, overlap_seconds: int = 0) -> WithSecret:
    """Give an endpoint another secret; the one before signs as well for the overlap. Raises `InvalidInput`."""
    if not 0 <= overlap_seconds <= MAX_OVERLAP_SECONDS:
        raise InvalidInput.of("overlap_seconds", f"is a number of seconds from 0 to {MAX_OVERLAP_SECONDS}")
    with transaction.atomic():
        row = locked(row)
        before = copy(row)
        # A column that does not open is mended by this.
        stored = row.secrets_beside(row.fingerprints)
        row.secrets = signing.roll(stored, timedelta(seconds=overlap_seconds), timezone.now())
        row.save()
        audit.record("webhook_endpoint.secret_rolled", row, audit.changed_fields(row, before))
    return WithSecret(row, row.secrets[signing.CURRENT])


def delete(row: WebhookEndpoint) -> None:
    """Remove an endpoint; what is under way is not followed by another attempt.

    Its deliveries, which may be many, are deleted soon afterwards, and its row with the last of them, or at once where
    there are none: until then its tenant cannot be deleted. Raises `NotFound` for one that is deleted.
    """
    with transaction.atomic():
        row = locked(row)
        _switch(row, DisabledReason.BY_HAND)
        row.deleted_at = row.disabled_at
        row.save(update_fields=["is_enabled", "disabled_at", "disabled_reason", "deleted_at", "updated_at"])
        audit.record("webhook_endpoint.deleted", row, {"url": [row.url, None]})
        # Whoever fans out at this moment is not waited for.
        rows = WebhookEndpoint.with_deleted.filter(pk=row.pk)
        is_free = rows.select_for_update(skip_locked=True).exists()
        if is_free and not WebhookDelivery.objects.filter(endpoint=row).exists():
            rows.delete()
        else:
            wake(PRUNING)


def note_gone(sent: WebhookEndpoint) -> None:
    """Switch an endpoint off that has answered 410: it does not want to be told any more.

    ``sent`` is the endpoint as it was when something was sent there: of one that was changed since, it says nothing.
    """
    _disable(_unchanged(sent), DisabledReason.GONE)


def give_up_failing(sent: WebhookEndpoint) -> None:
    """Switch an endpoint off where nothing has succeeded for five days, on each of which it was tried.

    After a day without an attempt the days begin anew: nobody knows whether one would have failed. ``sent`` as with
    `note_gone`.
    """
    now = timezone.now()
    rows = _unchanged(sent).filter(failing_since__lte=now - GIVEN_UP_AFTER)
    if _tried_on(sent, now).issuperset(range(GIVEN_UP_AFTER.days)):
        _disable(rows, DisabledReason.FAILING)
    else:
        rows.update(failing_since=now)


def _unchanged(sent: WebhookEndpoint) -> QuerySet[WebhookEndpoint]:
    return WebhookEndpoint.objects.filter(pk=sent.pk, updated_at=sent.updated_at)


def _tried_on(sent: WebhookEndpoint, now: datetime) -> set[int]:
    """Return on which of the last days, from 0 for the last 24 hours, something was sent to an endpoint's URL."""
    since = now - GIVEN_UP_AFTER
    attempts = DeliveryAttempt.objects.filter(
        delivery__endpoint=sent.pk, pk__gte=first_id("wha", since), sent_at__gt=since, url=sent.url
    )
    hours = attempts.annotate(hour=TruncHour("sent_at")).values_list("hour", flat=True).distinct()
    return {max(0, (now - hour) // timedelta(days=1)) for hour in hours}


def _disable(rows: QuerySet[WebhookEndpoint], reason: DisabledReason) -> None:
    with transaction.atomic():
        row = rows.filter(is_enabled=True).select_for_update(no_key=True).first()
        if row is None:
            return
        before = copy(row)
        _switch(row, reason)
        row.save()
        audit.record("webhook_endpoint.disabled", row, audit.changed_fields(row, before))
    log.warning("a webhook endpoint was switched off", endpoint_id=row.pk, reason=reason.value)


def _switch(row: WebhookEndpoint, reason: DisabledReason | None) -> None:
    row.is_enabled = reason is None
    row.disabled_at = None if reason is None else timezone.now()
    row.disabled_reason = "" if reason is None else reason.value
    if reason is None:
        _forget_health(row)


def _forget_health(row: WebhookEndpoint) -> None:
    row.failing_since, row.is_slow, row.quick_answers = None, False, 0


def _check_room(tenant: Tenant | None) -> None:
    """Raise `Conflict` where no other endpoint may be made; until the transaction ends nobody else makes one there."""
    if tenant is None:
        with database.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", ["webhook endpoints of no tenant"])
    else:
        Tenant.objects.select_for_update(no_key=True).get(pk=tenant.pk)
    if WebhookEndpoint.objects.filter(tenant=tenant).count() >= ENDPOINTS_AT_MOST:
        whose = "may be without a tenant" if tenant is None else "a tenant may have"
        raise Conflict(f"There are {ENDPOINTS_AT_MOST} webhook endpoints already, which is as many as {whose}.")


def locked(row: WebhookEndpoint) -> WebhookEndpoint:
    """Return an endpoint as it is now, which nobody else changes until the transaction ends. Raises `NotFound`."""
    found = WebhookEndpoint.objects.select_for_update(no_key=True).filter(pk=row.pk).first()
    if found is None:
        raise NotFound(f"Webhook endpoint {row.pk} not found")
    return found
