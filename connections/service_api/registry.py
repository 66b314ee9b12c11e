"""Providers as seed 002's services: found, made and changed within a tenant, never across."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils.text import slugify

from connections.service_api.bodies import ServiceChanges, ServiceInput
from connections.service_api.refusals import in_seed_words
from external_apis import providers
from external_apis.errors import Conflict, Forbidden, InvalidInput, NotFound
from external_apis.models import ExternalApi, ProviderStatus, Tenant
from external_apis.provider_input import read_body
from external_apis.tenancy import Scope

__all__ = ["create", "delete", "find", "matching", "require_own", "status_of", "update"]

_IN_CONFIG = ("base_url", "api_version")
_LONGEST_SLUG = 90


def matching(scope: Scope, filters: Mapping[str, Any]) -> QuerySet[ExternalApi]:
    """Return the services that a scope may read, by a part of the name, by type and by status as the seed has it."""
    rows = scope.readable(providers.live())
    if name := filters.get("name"):
        rows = rows.filter(name__icontains=name)
    if "type" in filters:
        rows = rows.filter(category=filters["type"])
    if "status" in filters:
        is_off = {"status": ProviderStatus.INACTIVE}
        rows = rows.filter(**is_off) if filters["status"] == "inactive" else rows.exclude(**is_off)
    return rows


def find(service_id: str, scope: Scope) -> ExternalApi:
    """Return a service. Raises `NotFound` in the seed's words, the same for another tenant's as for none."""
    try:
        return providers.find(service_id, scope)
    except NotFound:
        raise NotFound(f"Service with ID '{ascii(service_id)[1:-1][:100]}' not found") from None


def status_of(api: ExternalApi) -> str:
    """The seed knows two: what is deprecated still works."""
    return "inactive" if api.status == ProviderStatus.INACTIVE else "active"


def create(data: Mapping[str, Any], scope: Scope) -> ExternalApi:
    """Make a service under the slug of its name, without authentication until there are credentials for it.

    Raises `InvalidInput`, `Forbidden` for another tenant than the scope's, `Conflict` for a name that is taken.
    """
    body = read_body(ServiceInput, data)
    tenant_id = _tenant_for(body.tenant_id, scope)
    with transaction.atomic():
        beside = _names_of(tenant_id, scope)
        _require_free(body.name, beside)
        fields = {
            "name": body.name,
            "slug": _free_slug(body.name, beside),
            "category": body.type,
            "description": body.description,
            "status": body.status,
            "metadata": body.metadata,
            "sales_channel_id": tenant_id,
            "api_config": {"auth_type": "none", "base_url": body.base_url, "api_version": body.api_version},
        }
        with in_seed_words():
            return providers.create_external_api(fields, scope)


def update(api: ExternalApi, data: Mapping[str, Any], scope: Scope, *, is_whole: bool) -> ExternalApi:
    """Change what is given, or with ``is_whole`` replace everything. The slug stays.

    Raises as `create` does, and as `update_external_api` where stored credentials would go to another origin.
    """
    require_own(api, scope)
    body = read_body(ServiceInput if is_whole else ServiceChanges, data)
    given = body.model_dump(mode="json", exclude_unset=not is_whole)
    if given.pop("tenant_id", None) not in (None, api.tenant_id):
        raise Forbidden("The tenant of a service cannot be changed.")
    if given.get("status") == status_of(api):
        del given["status"]  # what is deprecated stays so
    changes = {_COLUMNS.get(name, name): value for name, value in given.items() if name not in _IN_CONFIG}
    if config := {name: given[name] for name in _IN_CONFIG if name in given}:
        changes["api_config"] = config
    with transaction.atomic():
        if "name" in given:
            _require_free(given["name"], _names_of(api.tenant_id, scope).exclude(pk=api.pk))
        with in_seed_words():
            return providers.update_external_api(api, changes, scope)


def delete(api: ExternalApi, scope: Scope) -> None:
    """Delete a service softly: the admin can restore it. Raises `Forbidden` for one of the whole installation."""
    require_own(api, scope)
    providers.delete_external_api(api)


def require_own(api: ExternalApi, scope: Scope) -> None:
    """Raise `Forbidden` for a service that the scope may read but that belongs to the whole installation."""
    if not scope.owns(api):
        raise Forbidden("This service belongs to the whole installation; only its operators may change it.")


# --- parts --------------------------------------------------------------------------------------------------------

_COLUMNS = {"type": "category"}


def _tenant_for(given: str | None, scope: Scope) -> str | None:
    if given is None or given == scope.tenant_id:
        return scope.tenant_id
    if scope.tenant_id is not None:
        raise Forbidden("tenant_id is not the token's tenant.")
    if not Tenant.objects.filter(pk=given).exists():
        raise InvalidInput.of("tenant_id", "there is no such tenant")
    return given


def _names_of(tenant_id: str | None, scope: Scope) -> QuerySet[ExternalApi]:
    """Return the services of a tenant, whose names nobody else gives until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"services of {tenant_id}"])
    return scope.own(providers.live()).filter(tenant_id=tenant_id)


def _require_free(name: str, beside: QuerySet[ExternalApi]) -> None:
    if beside.filter(name__iexact=name).exists():
        raise Conflict(f"A service with the name {name!r} exists already.")


def _free_slug(name: str, beside: QuerySet[ExternalApi]) -> str:
    """Return the slug of a name, with a number where another name has the same one."""
    base = slugify(name)[:_LONGEST_SLUG].strip("-_") or "service"
    taken = set(beside.filter(slug__startswith=base).values_list("slug", flat=True))
    candidates = (base if number == 1 else f"{base}-{number}" for number in count(1))
    return next(slug for slug in candidates if slug not in taken)
