"""``/api/external/feature-requests``."""

from __future__ import annotations

from typing import Annotated, Any

from django.urls import path
from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response

from external_apis.admin_api.frame import ResourceView
from external_apis.admin_api.operations import CamelAnswer, CamelModel, PageQuery, lists, writes
from external_apis.backoffice import feature_requests
from external_apis.backoffice.models import FeatureRequest, FeatureStatus
from external_apis.json_output import Timestamp


class FeatureRequestItem(CamelAnswer):
    id: str
    title: str
    description: str
    status: FeatureStatus
    votes: int
    tenant_id: str | None
    created_at: Timestamp
    updated_at: Timestamp


class FeatureRequestPatch(CamelModel):
    status: FeatureStatus


class FeatureRequestQuery(PageQuery):
    search: Annotated[str, Field(max_length=200)] = ""
    """A part of the title or description."""
    status: FeatureStatus = FeatureStatus.OPEN
    """Of any status unless given."""


class FeatureRequestList(ResourceView):
    @lists(
        "list_feature_requests",
        "content:read",
        FeatureRequestItem,
        FeatureRequestQuery,
        "List feature requests, the most wanted first",
    )
    def get(self, request: Request) -> Response:
        rows = feature_requests.matching_feature_requests(self.scope, **self.query.filters())
        return self.page(rows, _shown)


class FeatureRequestPage(ResourceView):
    @writes(
        "update_feature_request",
        "content:write",
        FeatureRequestPatch,
        FeatureRequestItem,
        "Say what becomes of a feature request",
    )
    def patch(self, request: Request, feature_request_id: str) -> Response:
        self.require_live()
        row = feature_requests.find_feature_request(feature_request_id, self.scope)
        return self.answer(_shown(feature_requests.update_feature_request(row, self.given)))


def _shown(row: FeatureRequest) -> dict[str, Any]:
    columns = {name: getattr(row, name) for name in FeatureRequestItem.model_fields}
    item = FeatureRequestItem.model_construct(**{**columns, "status": FeatureStatus(row.status)})
    return item.model_dump(mode="json", by_alias=True)


routes = [
    path("feature-requests", FeatureRequestList.as_view()),
    path("feature-requests/<str:feature_request_id>", FeatureRequestPage.as_view()),
]
