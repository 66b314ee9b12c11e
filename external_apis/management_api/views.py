"""Providers: ``/admin/external-apis`` (seed 000)."""

from __future__ import annotations

from typing import Annotated, Any

from django.db.models import Q, QuerySet
from django.http import HttpResponse
from django.urls import reverse
from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response

from external_apis import providers
from external_apis.management_api.frame import ManagementView
from external_apis.management_api.paging import PageQuery, page_of, total_header
from external_apis.management_api.schema import NewProvider, deletes, lists, reads, writes
from external_apis.models import Category, Environment, ExternalApi, ProviderStatus
from external_apis.provider_input import ProviderChanges, read_body
from external_apis.provider_output import (
    ProviderDetail,
    ProviderItems,
    count_connections,
    provider_detail,
    provider_item,
)


class ProviderQuery(PageQuery):
    search: Annotated[str, Field(max_length=200)] = ""
    """A part of the name or slug."""
    slug: Annotated[str, Field(max_length=100)] = ""
    category: Category = Category.OTHER
    status: ProviderStatus = ProviderStatus.ACTIVE
    environment: Environment = Environment.PRODUCTION
    is_sandbox: bool = False


class ProviderList(ManagementView):
    model = ExternalApi

    @lists("list_providers", ProviderItems, ProviderQuery, "List providers")
    def get(self, request: Request) -> Response:
        query = read_body(ProviderQuery, request.query_params.dict())
        rows = _filtered(self.scope.readable(providers.live()), query.filters())
        page = page_of(rows, query)
        counts = count_connections([api.pk for api in page], self.scope)
        items = [provider_item(api, counts.get(api.pk, 0)) for api in page]
        return Response(items, headers=total_header(rows, query, page))

    @writes("create_provider", NewProvider, ProviderDetail, "Create a provider", 201)
    def post(self, request: Request) -> Response:
        api = providers.create_external_api(self.body, self.scope)
        location = reverse("external-api", kwargs={"reference": api.pk})
        return Response(provider_detail(api, 0, self.scope), status=201, headers={"Location": location})


class ProviderPage(ManagementView):
    model = ExternalApi

    @reads("get_provider", ProviderDetail, "Show a provider")
    def get(self, request: Request, reference: str) -> Response:
        return self._shown(providers.find_by_id_or_slug(reference, self.scope))

    @writes("update_provider", ProviderChanges, ProviderDetail, "Change a provider; api_config is merged")
    def patch(self, request: Request, reference: str) -> Response:
        return self._shown(providers.update_external_api(self._own(reference), self.body, self.scope))

    @deletes("delete_provider", "Delete a provider; the admin can restore it")
    def delete(self, request: Request, reference: str) -> HttpResponse:
        providers.delete_external_api(self._own(reference))
        return Response(status=204)

    def _own(self, reference: str) -> ExternalApi:
        api = providers.find_by_id_or_slug(reference, self.scope)
        self.require_own(api)
        return api

    def _shown(self, api: ExternalApi) -> Response:
        counts = count_connections([api.pk], self.scope)
        return Response(provider_detail(api, counts.get(api.pk, 0), self.scope))


def _filtered(rows: QuerySet[ExternalApi], filters: dict[str, Any]) -> QuerySet[ExternalApi]:
    search = filters.pop("search", "")
    if search:
        rows = rows.filter(Q(name__icontains=search) | Q(slug__icontains=search))
    return rows.filter(**filters)
