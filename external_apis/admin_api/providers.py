"""``/api/external/providers``: seed 000's providers in seed 001's envelope.

Fields have camelCase names; ``apiConfig`` and ``metadata`` are stored documents and keep their own keys.
"""

from __future__ import annotations

from typing import Annotated, Any

from django.db.models import Q
from django.urls import path
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel
from rest_framework.request import Request
from rest_framework.response import Response

from external_apis import provider_output, providers
from external_apis.admin_api.frame import ResourceView
from external_apis.admin_api.operations import Deleted, PageQuery, deletes, lists, reads, writes
from external_apis.envelope import camel_keys
from external_apis.models import Category, Environment, ExternalApi, ProviderStatus
from external_apis.provider_input import ProviderChanges, ProviderInput


class ProviderSummary(provider_output.ProviderItem):
    model_config = ConfigDict(alias_generator=to_camel)


class ProviderFacts(provider_output.ProviderDetail):
    model_config = ConfigDict(alias_generator=to_camel)


class ProviderBody(ProviderInput):
    """Secrets go into ``apiConfig`` in plain keys (``client_secret``, ``key``) and are stored encrypted."""

    model_config = ConfigDict(alias_generator=to_camel)


class ProviderPatch(ProviderChanges):
    """``apiConfig`` is a JSON merge patch (RFC 7396)."""

    model_config = ConfigDict(alias_generator=to_camel)


class ProviderQuery(PageQuery):
    search: Annotated[str, Field(max_length=200)] = ""
    """A part of the name or slug."""
    status: ProviderStatus = ProviderStatus.ACTIVE
    category: Category = Category.OTHER
    environment: Environment = Environment.PRODUCTION
    is_sandbox: bool = False
    slug: Annotated[str, Field(max_length=100)] = ""


class ProviderList(ResourceView):
    @lists("list_admin_providers", "providers:read", ProviderSummary, ProviderQuery, "List providers")
    def get(self, request: Request) -> Response:
        filters = self.query.filters()
        search = filters.pop("search", "")
        rows = self.scope.readable(providers.live()).filter(**filters)
        if search:
            rows = rows.filter(Q(name__icontains=search) | Q(slug__icontains=search))
        found, pages = self.find_page(rows)
        counts = provider_output.count_connections([api.pk for api in found], self.scope)
        items = [camel_keys(provider_output.provider_item(api, counts.get(api.pk, 0))) for api in found]
        return self.answer_page(items, pages)

    @writes("create_admin_provider", "providers:write", ProviderBody, ProviderFacts, "Create a provider", status=201)
    def post(self, request: Request) -> Response:
        api = providers.create_external_api(self.given, self.scope)
        return self.answer(_shown(self, api))


class ProviderPage(ResourceView):
    @reads("get_admin_provider", "providers:read", ProviderFacts, "Show a provider by id or slug")
    def get(self, request: Request, reference: str) -> Response:
        return self.answer(_shown(self, providers.find_by_id_or_slug(reference, self.scope)))

    @writes("update_admin_provider", "providers:write", ProviderPatch, ProviderFacts, "Change a provider")
    def patch(self, request: Request, reference: str) -> Response:
        return self.answer(_shown(self, providers.update_external_api(self._own(reference), self.given, self.scope)))

    @deletes("delete_admin_provider", "providers:write", "Delete a provider; the admin can restore it")
    def delete(self, request: Request, reference: str) -> Response:
        api = self._own(reference)
        providers.delete_external_api(api)
        return self.answer(Deleted(id=api.pk).model_dump(by_alias=True))

    def _own(self, reference: str) -> ExternalApi:
        api = providers.find_by_id_or_slug(reference, self.scope)
        self.require_own(api)
        return api


def _shown(view: ResourceView, api: ExternalApi) -> dict[str, Any]:
    counts = provider_output.count_connections([api.pk], view.scope)
    return camel_keys(provider_output.provider_detail(api, counts.get(api.pk, 0), view.scope))


routes = [
    path("providers", ProviderList.as_view()),
    path("providers/<str:reference>", ProviderPage.as_view()),
]
