"""``/api/external/tenants``."""

from __future__ import annotations

from typing import Annotated, Any

from django.db.models import Q
from django.urls import path
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel
from rest_framework.request import Request
from rest_framework.response import Response

from external_apis import tenants
from external_apis.admin_api.frame import ResourceView
from external_apis.admin_api.operations import CamelAnswer, Deleted, PageQuery, deletes, lists, reads, writes
from external_apis.json_output import Timestamp
from external_apis.models import Tenant


class TenantItem(CamelAnswer):
    id: str
    slug: str
    name: str
    is_active: bool
    created_at: Timestamp
    updated_at: Timestamp


class NewTenant(tenants.TenantInput):
    model_config = ConfigDict(alias_generator=to_camel)


class TenantPatch(tenants.TenantChanges):
    model_config = ConfigDict(alias_generator=to_camel)


class TenantQuery(PageQuery):
    search: Annotated[str, Field(max_length=200)] = ""
    """A part of the name or slug."""
    is_active: bool = True


class TenantList(ResourceView):
    @lists("list_tenants", "tenants:read", TenantItem, TenantQuery, "List tenants")
    def get(self, request: Request) -> Response:
        filters = self.query.filters()
        search = filters.pop("search", "")
        rows = tenants.visible_tenants(self.scope).filter(**filters)
        if search:
            rows = rows.filter(Q(name__icontains=search) | Q(slug__icontains=search))
        return self.page(rows, _shown)

    @writes("create_tenant", "tenants:write", NewTenant, TenantItem, "Create a tenant", status=201)
    def post(self, request: Request) -> Response:
        self.require_live()
        self.require_operator()
        return self.answer(_shown(tenants.create_tenant(self.given)))


class TenantPage(ResourceView):
    @reads("get_tenant", "tenants:read", TenantItem, "Show a tenant")
    def get(self, request: Request, tenant_id: str) -> Response:
        return self.answer(_shown(tenants.find_tenant(tenant_id, self.scope)))

    @writes("update_tenant", "tenants:write", TenantPatch, TenantItem, "Rename a tenant, or switch it off and on")
    def patch(self, request: Request, tenant_id: str) -> Response:
        return self.answer(_shown(tenants.update(self._found(tenant_id), self.given)))

    @deletes("delete_tenant", "tenants:write", "Delete a tenant that nothing belongs to")
    def delete(self, request: Request, tenant_id: str) -> Response:
        tenant = self._found(tenant_id)
        tenants.delete(tenant)
        return self.answer(Deleted(id=tenant_id).model_dump(by_alias=True))

    def _found(self, tenant_id: str) -> Tenant:
        """A foreign tenant is missing; one's own may be seen and not changed."""
        self.require_live()
        tenant = tenants.find_tenant(tenant_id, self.scope)
        self.require_operator()
        return tenant


def _shown(tenant: Tenant) -> dict[str, Any]:
    item = TenantItem.model_construct(**{name: getattr(tenant, name) for name in TenantItem.model_fields})
    return item.model_dump(mode="json", by_alias=True)


routes = [
    path("tenants", TenantList.as_view()),
    path("tenants/<str:tenant_id>", TenantPage.as_view()),
]
