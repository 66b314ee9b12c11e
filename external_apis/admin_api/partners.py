"""``/api/external/partners``."""

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
from external_apis.models import Partner
from external_apis.provider_input import RowId


class PartnerItem(CamelAnswer):
    id: str
    slug: str
    name: str
    tenant_id: str | None
    created_at: Timestamp
    updated_at: Timestamp


class NewPartner(tenants.PartnerInput):
    model_config = ConfigDict(alias_generator=to_camel)


class PartnerPatch(tenants.PartnerChanges):
    model_config = ConfigDict(alias_generator=to_camel)


class PartnerQuery(PageQuery):
    search: Annotated[str, Field(max_length=200)] = ""
    """A part of the name or slug."""
    tenant_id: RowId = ""


class PartnerList(ResourceView):
    @lists("list_partners", "tenants:read", PartnerItem, PartnerQuery, "List partners")
    def get(self, request: Request) -> Response:
        filters = self.query.filters()
        search = filters.pop("search", "")
        rows = tenants.visible_partners(self.scope).filter(**filters)
        if search:
            rows = rows.filter(Q(name__icontains=search) | Q(slug__icontains=search))
        return self.page(rows, _shown)

    @writes("create_partner", "tenants:write", NewPartner, PartnerItem, "Create a partner", status=201)
    def post(self, request: Request) -> Response:
        self.require_live()
        return self.answer(_shown(tenants.create_partner(self.given, self.scope)))


class PartnerPage(ResourceView):
    @reads("get_partner", "tenants:read", PartnerItem, "Show a partner")
    def get(self, request: Request, partner_id: str) -> Response:
        return self.answer(_shown(tenants.find_partner(partner_id, self.scope)))

    @writes("update_partner", "tenants:write", PartnerPatch, PartnerItem, "Rename a partner")
    def patch(self, request: Request, partner_id: str) -> Response:
        self.require_live()
        return self.answer(_shown(tenants.update(tenants.find_partner(partner_id, self.scope), self.given)))

    @deletes("delete_partner", "tenants:write", "Delete a partner that nothing belongs to")
    def delete(self, request: Request, partner_id: str) -> Response:
        self.require_live()
        tenants.delete(tenants.find_partner(partner_id, self.scope))
        return self.answer(Deleted(id=partner_id).model_dump(by_alias=True))


def _shown(partner: Partner) -> dict[str, Any]:
    item = PartnerItem.model_construct(**{name: getattr(partner, name) for name in PartnerItem.model_fields})
    return item.model_dump(mode="json", by_alias=True)


routes = [
    path("partners", PartnerList.as_view()),
    path("partners/<str:partner_id>", PartnerPage.as_view()),
]
