"""Create, change and delete tenants and partners: whose a provider or connection is."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any, TypeVar

from django.db import IntegrityError, transaction
from django.db.models import Model, ProtectedError
from pydantic import BaseModel, ConfigDict, StrictBool

from external_apis import audit
from external_apis.errors import Conflict, NotFound
from external_apis.ids import can_name
from external_apis.models import Partner, Tenant
from external_apis.models.base import SoftDeleted
from external_apis.provider_input import Name, RowId, Slug, read_body
from external_apis.tenancy import EVERYTHING, Scope

__all__ = [
    "PartnerChanges",
    "PartnerInput",
    "TenantChanges",
    "TenantInput",
    "create_partner",
    "create_tenant",
    "delete",
    "find_partner",
    "find_tenant",
    "update",
    "visible_partners",
    "visible_tenants",
]

_Row = TypeVar("_Row", Tenant, Partner)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class TenantInput(_Body):
    name: Name
    slug: Slug
    is_active: StrictBool = True


class TenantChanges(_Body):
    name: Name = ""
    slug: Slug = ""
    is_active: StrictBool = True
    """Everything of an inactive tenant stays stored and cannot be used."""


class PartnerInput(_Body):
    name: Name
    slug: Slug
    tenant_id: RowId | None = None


class PartnerChanges(_Body):
    name: Name = ""
    slug: Slug = ""


def visible_tenants(scope: Scope) -> Any:
    """The tenants that somebody of this scope sees: all, or their own; a test key its own alone."""
    if scope.tenant_id is not None:
        return Tenant.objects.filter(pk=scope.tenant_id)
    return Tenant.objects.none() if scope.is_sandbox else Tenant.objects.all()


def visible_partners(scope: Scope) -> Any:
    """The partners that somebody of this scope sees; the sandbox has none."""
    return Partner.objects.none() if scope.is_sandbox else scope.own(Partner.objects.all())


def find_tenant(tenant_id: str, scope: Scope = EVERYTHING) -> Tenant:
    """Return a tenant that the scope may see. Raises `NotFound`."""
    tenant: Tenant | None = visible_tenants(scope).filter(pk=tenant_id).first() if can_name(tenant_id) else None
    if tenant is None:
        raise NotFound(f"Tenant {ascii(tenant_id)[1:-1]} not found")
    return tenant


def find_partner(partner_id: str, scope: Scope = EVERYTHING) -> Partner:
    """Return a partner of the scope. Raises `NotFound`."""
    partner: Partner | None = visible_partners(scope).filter(pk=partner_id).first() if can_name(partner_id) else None
    if partner is None:
        raise NotFound(f"Partner {ascii(partner_id)[1:-1]} not found")
    return partner


def create_tenant(data: Mapping[str, Any]) -> Tenant:
    """Store a tenant. Raises `InvalidInput`, and `Conflict` for a slug in use."""
    body = read_body(TenantInput, data)
    return _store(Tenant(**body.model_dump()), None)


def create_partner(data: Mapping[str, Any], scope: Scope = EVERYTHING) -> Partner:
    """Store a partner of a tenant, or one beside all of them.

    Raises `InvalidInput`, `NotFound` for a tenant that is not the scope's, and `Conflict` for a slug in use.
    """
    body = read_body(PartnerInput, data)
    tenant_id = body.tenant_id or scope.tenant_id
    tenant = find_tenant(tenant_id, scope) if tenant_id else None
    return _store(Partner(name=body.name, slug=body.slug, tenant=tenant), None)


def update(row: _Row, data: Mapping[str, Any]) -> _Row:
    """Change a tenant or partner. Raises `InvalidInput`, and `Conflict` for a slug in use."""
    body = read_body(TenantChanges if isinstance(row, Tenant) else PartnerChanges, data)
    with transaction.atomic():
        row = type(row)._default_manager.select_for_update().get(pk=row.pk)
        before = copy(row)
        for name in body.model_fields_set:
            setattr(row, name, getattr(body, name))
        return _store(row, before)


def delete(row: Tenant | Partner) -> None:
    """Delete a tenant or partner for good. Raises `Conflict` while something belongs to it.

    What is deleted but kept counts: a connection that may be restored, an affiliate whose money is on record.
    """
    kind = str(row._meta.model_name)
    try:
        with transaction.atomic():
            audit.record(f"{kind}.deleted", row, {"slug": [row.slug, None], "name": [row.name, None]})
            row.delete()
    except ProtectedError as error:
        names = sorted({_describe(found) for found in error.protected_objects})
        otherwise = " It can be made inactive." if isinstance(row, Tenant) else ""
        raise Conflict(f"The {kind} {row.slug} still has {', '.join(names)}.{otherwise}") from None


def _describe(row: Model) -> str:
    names = str(row._meta.verbose_name_plural)
    if getattr(row, "deleted_at", None) is None:
        return names
    return f"deleted {names}" if isinstance(row, SoftDeleted) else f"{names} that are being removed"


def _store(row: _Row, before: _Row | None) -> _Row:
    kind = str(row._meta.model_name)
    try:
        with transaction.atomic():
            row.save()
            verb = "created" if before is None else "updated"
            audit.record(f"{kind}.{verb}", row, audit.changed_fields(row, before))
    except IntegrityError:
        raise Conflict(f"A {kind} {row.slug!r} exists already.") from None
    return row
