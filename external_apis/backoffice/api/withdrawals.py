"""``/api/external/withdrawals``."""

from __future__ import annotations

from typing import Annotated, Any

from django.urls import path
from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response

from external_apis.admin_api.frame import ResourceView
from external_apis.admin_api.operations import CamelAnswer, CamelModel, PageQuery, lists, writes
from external_apis.backoffice import withdrawals
from external_apis.backoffice.models import Withdrawal, WithdrawalStatus
from external_apis.json_output import Timestamp
from external_apis.provider_input import RowId


class WithdrawalItem(CamelAnswer):
    id: str
    affiliate_id: str
    affiliate_code: str
    affiliate_name: str
    tenant_id: str | None
    amount_minor: int
    """In the currency's minor unit (cents)."""
    currency: str
    status: WithdrawalStatus
    decided_at: Timestamp | None
    decided_by: str
    """`key:<id>`, `user:<name>` or `system`; empty while nobody has decided."""
    created_at: Timestamp
    updated_at: Timestamp


class WithdrawalQuery(PageQuery):
    search: Annotated[str, Field(max_length=200)] = ""
    """The id, or a part of the affiliate's code, name or e-mail address."""
    status: WithdrawalStatus = WithdrawalStatus.PENDING
    """Of any status unless given."""


class WithdrawalDecision(CamelModel):
    id: RowId
    status: WithdrawalStatus
    """`pending` becomes `approved` or `rejected`, `approved` becomes `paid` or `rejected`."""
    expected: Annotated[WithdrawalStatus | None, Field(alias="from")] = None
    """The status that it has as far as you know; unless given `approved` for `paid`, and `pending` for all else."""


class WithdrawalList(ResourceView):
    @lists(
        "list_withdrawals", "withdrawals:read", WithdrawalItem, WithdrawalQuery, "List withdrawals, the newest first"
    )
    def get(self, request: Request) -> Response:
        return self.page(withdrawals.search_withdrawals(self.scope, **self.query.filters()), _shown)

    @writes("decide_withdrawal", "withdrawals:write", WithdrawalDecision, WithdrawalItem, "Decide a withdrawal")
    def put(self, request: Request) -> Response:
        self.require_live()
        row = withdrawals.find_withdrawal(self.given["id"], self.scope)
        status, known = WithdrawalStatus(self.given["status"]), self.given.get("expected")
        expected = None if known is None else WithdrawalStatus(known)
        return self.answer(_shown(withdrawals.decide_withdrawal(row, status, expected)))


def _shown(row: Withdrawal) -> dict[str, Any]:
    told: dict[str, Any] = {"affiliate_code": row.affiliate.code, "affiliate_name": row.affiliate.name}
    told["status"] = WithdrawalStatus(row.status)
    told |= {name: getattr(row, name) for name in WithdrawalItem.model_fields if name not in told}
    return WithdrawalItem.model_construct(**told).model_dump(mode="json", by_alias=True)


routes = [path("withdrawals", WithdrawalList.as_view())]
