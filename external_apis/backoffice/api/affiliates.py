"""``/api/external/affiliates``."""

from __future__ import annotations

from typing import Annotated, Any

from django.urls import path
from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response

from external_apis.admin_api.frame import ResourceView
from external_apis.admin_api.operations import CamelAnswer, Deleted, PageQuery, deletes, lists, reads
from external_apis.backoffice import affiliates
from external_apis.backoffice.models import Affiliate, AffiliateStatus
from external_apis.json_output import Timestamp


class AffiliateItem(CamelAnswer):
    id: str
    code: str
    name: str
    email: str
    user_id: str | None
    """Of the user who is this affiliate, if that is one."""
    tenant_id: str | None
    status: AffiliateStatus
    commission_basis_points: int
    """Hundredths of a per cent of a sale: 1250 is 12.5 %."""
    referrals: int
    balance_minor: int
    """In the currency's minor unit (cents), without what withdrawals have reserved."""
    currency: str
    created_at: Timestamp
    updated_at: Timestamp


class AffiliateQuery(PageQuery):
    search: Annotated[str, Field(max_length=200)] = ""
    """A part of the code, the name or the e-mail address."""
    status: AffiliateStatus = AffiliateStatus.ACTIVE
    """Of any status unless given."""


class AffiliateList(ResourceView):
    @lists("list_affiliates", "affiliates:read", AffiliateItem, AffiliateQuery, "List affiliates, the newest first")
    def get(self, request: Request) -> Response:
        return self.page(affiliates.search_affiliates(self.scope, **self.query.filters()), _shown)


class AffiliatePage(ResourceView):
    @reads("get_affiliate", "affiliates:read", AffiliateItem, "Show an affiliate")
    def get(self, request: Request, affiliate_id: str) -> Response:
        return self.answer(_shown(affiliates.find_affiliate(affiliate_id, self.scope)))

    @deletes("delete_affiliate", "affiliates:write", "Delete an affiliate that is owed nothing")
    def delete(self, request: Request, affiliate_id: str) -> Response:
        self.require_live()
        affiliates.delete_affiliate(affiliates.find_affiliate(affiliate_id, self.scope))
        return self.answer(Deleted(id=affiliate_id).model_dump(by_alias=True))


def _shown(row: Affiliate) -> dict[str, Any]:
    told: dict[str, Any] = {"user_id": row.account_id, "status": AffiliateStatus(row.status)}
    told |= {name: getattr(row, name) for name in AffiliateItem.model_fields if name not in told}
    item = AffiliateItem.model_construct(**told)
    return item.model_dump(mode="json", by_alias=True)


routes = [
    path("affiliates", AffiliateList.as_view()),
    path("affiliates/<str:affiliate_id>", AffiliatePage.as_view()),
]
