"""From a reference to a connection: an id, ``provider-slug/connection-slug``, or a provider slug that has just one."""

from __future__ import annotations

from django.db.models import Q, QuerySet

from connections.models import ExternalApiConnection
from external_apis.errors import Conflict, NotFound
from external_apis.models import ExternalApi
from external_apis.providers import resolve
from external_apis.tenancy import EVERYTHING, Scope

_MAX_NAMED = 10


def live() -> QuerySet[ExternalApiConnection]:
    """Connections that are not deleted, of providers that are not deleted."""
    return ExternalApiConnection.objects.filter(deleted_at=None, external_api__deleted_at=None)


def find(connection_id: str, scope: Scope = EVERYTHING) -> ExternalApiConnection:
    """Return the live connection of an id, with provider and credential, in one query. Raises `NotFound`."""
    rows = scope.own(live()).select_related("external_api", "credential").filter(pk=connection_id)
    connection = rows.first()
    if connection is None:
        raise NotFound(f"Connection {connection_id} not found")
    return connection


def of_provider(api: ExternalApi) -> QuerySet[ExternalApiConnection]:
    """Connections of a live provider that are not deleted, newest first."""
    return ExternalApiConnection.objects.filter(external_api=api, deleted_at=None)


def find_of_provider(api: ExternalApi, reference: str, scope: Scope = EVERYTHING) -> ExternalApiConnection:
    """Return a provider's connection by id or slug, with its credential, in one query.

    Raises `NotFound`, and `Conflict` for a slug that several tenants, partners or users of the scope have.
    """
    rows = scope.own(of_provider(api)).select_related("credential")
    found = list(rows.filter(Q(pk=reference) | Q(slug=reference))[:_MAX_NAMED])
    found = [row for row in found if row.pk == reference] or found
    if not found:
        raise NotFound(f"Connection {reference} not found")
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
    other users, partners and tenants are not considered. At most two queries. Raises `NotFound`, and `Conflict`
    where a bare provider slug has several connections.
    """
    if reference.startswith("conn_") and "/" not in reference:
        return find(reference)
    provider_slug, slash, connection_slug = reference.partition("/")
    api = resolve(provider_slug, environment, tenant, partner)
    rows = live().filter(external_api=api).select_related("credential")
    if slash:
        rows = rows.filter(slug=connection_slug)
    # Bounded: a provider with thousands of connections is never loaded for a bare slug.
    usable = rows.filter(_mine("tenant_id", tenant), _mine("partner_id", partner), _mine("user_id", user))
    found = list(usable.order_by("slug")[: _MAX_NAMED + 1])
    slugs = sorted({connection.slug for connection in found})
    if not found:
        raise NotFound(f"Connection {reference} not found")
    if len(slugs) > 1:
        names = ", ".join(f"{provider_slug}/{slug}" for slug in slugs[:_MAX_NAMED])
        raise Conflict(f"Connection {reference} is ambiguous: name one of {names}")
    chosen = min(found, key=lambda row: (row.user_id is None, row.partner_id is None, row.tenant_id is None))
    chosen.external_api = api
    return chosen


def _mine(column: str, value: str | None) -> Q:
    unset = Q(**{f"{column}__isnull": True})
    return unset if value is None else unset | Q(**{column: value})
