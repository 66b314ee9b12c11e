"""From a reference to a connection: an id, ``provider-slug/connection-slug``, or a provider slug that has just one."""

from __future__ import annotations

from functools import lru_cache

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import OuterRef, Q, QuerySet

from connections.models import ExternalApiConnection
from connections.versions import versioned
from external_apis.data_keys import data_keys
from external_apis.errors import Conflict, NotFound
from external_apis.ids import can_name
from external_apis.models import DataKey, ExternalApi
from external_apis.providers import resolve
from external_apis.tenancy import EVERYTHING, Scope

_MAX_NAMED = 10


def live() -> QuerySet[ExternalApiConnection]:
    """Connections that are not deleted, of providers that are not deleted."""
    return ExternalApiConnection.objects.filter(deleted_at=None, external_api__deleted_at=None)


def find(connection_id: str, scope: Scope = EVERYTHING) -> ExternalApiConnection:
    """Return the live connection of an id, with provider and credential, in one query. Raises `NotFound`."""
    return _only(scope.own(live()), connection_id)


def find_in_scope(reference: str, scope: Scope, environment: str | None = None) -> ExternalApiConnection:
    """Return the scope's own connection of an id, ``provider-slug/connection-slug``, or a provider's slug alone.

    By slug those of the scope's tenant are found (of the whole installation: those of none) that belong to no partner
    or user; the others have ids. At most two queries. Raises `NotFound`, and `Conflict` where a slug is ambiguous.
    """
    if reference.startswith("conn_") and "/" not in reference:
        return find(reference, scope)
    if not can_name(reference):
        raise _missing(reference)
    provider_slug, slash, connection_slug = reference.partition("/")
    api = resolve(provider_slug, environment, scope.tenant_id, is_sandbox=scope.is_sandbox)
    rows = of_provider(api).filter(tenant_id=scope.tenant_id, partner=None, user=None).order_by("slug")
    if slash:
        rows = rows.filter(slug=connection_slug)
    found = list(rows.select_related("credential", "tenant")[: _MAX_NAMED + 1])
    if not found:
        raise _missing(reference)
    if len(found) > 1:
        names = ", ".join(f"{provider_slug}/{row.slug}" for row in found[:_MAX_NAMED])
        raise Conflict(f"Connection {reference} is ambiguous: name one of {names}")
    found[0].external_api = api
    return found[0]


def in_scope(scope: Scope) -> QuerySet[ExternalApiConnection]:
    """The scope's live connections of all providers, newest first.

    Providers are a sub-query and no join: a page far down is found in an index of the connections alone.
    """
    mine = {} if scope.tenant_id is None else {"tenant_id": scope.tenant_id}
    rows = ExternalApiConnection.objects.filter(deleted_at=None, **mine)
    return rows.exclude(external_api__in=_unseen(scope.is_sandbox))


def of_provider(api: ExternalApi) -> QuerySet[ExternalApiConnection]:
    """Connections of a live provider that are not deleted, newest first."""
    return ExternalApiConnection.objects.filter(external_api=api, deleted_at=None)


def find_of_provider(api: ExternalApi, reference: str, scope: Scope = EVERYTHING) -> ExternalApiConnection:
    """Return a provider's connection by id or slug, with its credential, in one query.

    Raises `NotFound`, and `Conflict` for a slug that several tenants, partners or users of the scope have.
    """
    if not can_name(reference):
        raise _missing(reference)
    rows = scope.own(of_provider(api)).select_related("credential", "tenant", "grant")
    found = list(rows.filter(Q(pk=reference) | Q(slug=reference))[:_MAX_NAMED])
    found = [row for row in found if row.pk == reference] or found
    if not found:
        raise _missing(reference)
    if len(found) > 1:
        raise Conflict(f"Connection {reference} is ambiguous: name it by its id")
    found[0].external_api = api
    return found[0]


def find_by_reference(
    reference: str,
    *,
    environment: str | None = None,
    tenant: str | None = None,
    partner: str | None = None,
    user: str | None = None,
) -> ExternalApiConnection:
    """Return what a reference names; ``tenant``, ``partner`` and ``user`` are ids.

    Of connections with one slug the user's own goes before the partner's, the tenant's and the global one; those of
    other users, partners and tenants are not considered. An id alone finds any row, for code that is trusted with all
    of them; with any of the arguments it is held to what a slug could find with the same ones, so that a foreign
    tenant's id is as missing as one that never was. At most two queries. Raises `NotFound`, and `Conflict` where a
    bare provider slug has several connections.

    The row brings the `versions` along of what it was made of.
    """
    bounds = {"environment": environment, "tenant": tenant, "partner": partner, "user": user}
    given = {name: value for name, value in bounds.items() if value is not None}
    if not all(can_name(value) for value in (reference, *given.values())):
        raise _missing(reference)
    mine = _mine("tenant_id", tenant) & _mine("partner_id", partner) & _mine("user_id", user)
    if reference.startswith("conn_") and "/" not in reference:
        rows = versioned(live())
        if given:
            rows = rows.filter(mine)
        if environment is not None:
            rows = rows.filter(external_api__environment=environment)
        return _only(rows, reference)
    provider_slug, slash, connection_slug = reference.partition("/")
    api = resolve(provider_slug, environment, tenant, partner)
    rows = versioned(live().filter(mine, external_api=api).select_related("credential", "tenant"))
    is_cold = data_keys().is_empty()
    if is_cold:
        rows = _with_data_keys(rows)
    if slash:
        rows = rows.filter(slug=connection_slug)
    # Bounded: a provider with thousands of connections is never loaded for a bare slug.
    found = list(rows.order_by("slug")[: _MAX_NAMED + 1])
    slugs = sorted({connection.slug for connection in found})
    if not found:
        raise _missing(reference)
    if len(slugs) > 1:
        names = ", ".join(f"{provider_slug}/{slug}" for slug in slugs[:_MAX_NAMED])
        raise Conflict(f"Connection {reference} is ambiguous: name one of {names}")
    chosen = min(found, key=lambda row: (row.user_id is None, row.partner_id is None, row.tenant_id is None))
    chosen.external_api = api
    if is_cold:
        data_keys().learn(zip(vars(chosen).pop("data_key_ids"), vars(chosen).pop("wrapped_data_keys"), strict=True))
    return chosen


def _with_data_keys(rows: QuerySet[ExternalApiConnection]) -> QuerySet[ExternalApiConnection]:
    """Bring the keys of each row's tenant and of the global rows along: a new process needs no query more."""
    mine = Q(tenant=None) | Q(tenant=OuterRef("tenant"))
    keys = DataKey.objects.filter(mine, wrapped__isnull=False).order_by("pk")
    return rows.annotate(
        data_key_ids=ArraySubquery(keys.values("pk")), wrapped_data_keys=ArraySubquery(keys.values("wrapped"))
    )


def _only(rows: QuerySet[ExternalApiConnection], connection_id: str) -> ExternalApiConnection:
    connection = None
    if can_name(connection_id):
        connection = rows.select_related("external_api", "credential", "tenant").filter(pk=connection_id).first()
    if connection is None:
        raise _missing(connection_id)
    return connection


def _missing(reference: str) -> NotFound:
    return NotFound(f"Connection {reference if can_name(reference) else ascii(reference)} not found")


def _mine(column: str, value: str | None) -> Q:
    unset = Q(**{f"{column}__isnull": True})
    return unset if value is None else unset | Q(**{column: value})


@lru_cache(maxsize=3)
def _unseen(is_sandbox: bool | None) -> QuerySet[ExternalApi]:
    """Providers whose connections a scope does not see. Never evaluated itself: only ever part of other queries."""
    unseen = Q(deleted_at__isnull=False)
    if is_sandbox is not None:
        unseen |= Q(is_sandbox=not is_sandbox)
    return ExternalApi.objects.filter(unseen)
