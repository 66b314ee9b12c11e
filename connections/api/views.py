"""Connections of a provider: ``/admin/external-apis/{id}/connections`` (seed 000)."""

from __future__ import annotations

from typing import Annotated, Any

from django.db.models import Q, QuerySet
from django.http import HttpResponse
from django.urls import reverse
from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response

from connections import lookup, services
from connections.api.representation import (
    ConnectionDetail,
    ConnectionItems,
    TestResult,
    connection_detail,
    connection_item,
    test_result,
)
from connections.connection_input import ConnectionChanges, ConnectionInput
from connections.models import ConnectionStatus, ExternalApiConnection
from external_apis import providers
from external_apis.management_api.frame import ManagementView
from external_apis.management_api.paging import PageQuery, page_of, total_header
from external_apis.management_api.schema import deletes, lists, reads, writes
from external_apis.models import ExternalApi
from external_apis.provider_input import read_body


class ConnectionQuery(PageQuery):
    search: Annotated[str, Field(max_length=200)] = ""
    """A part of the name or slug."""
    slug: Annotated[str, Field(max_length=100)] = ""
    status: ConnectionStatus = ConnectionStatus.ACTIVE


class ConnectionList(ManagementView):
    model = ExternalApiConnection

    @lists("list_connections", ConnectionItems, ConnectionQuery, "List a provider's connections")
    def get(self, request: Request, reference: str) -> Response:
        query = read_body(ConnectionQuery, request.query_params.dict())
        api = providers.find_by_id_or_slug(reference, self.scope)
        rows = _filtered(self.scope.own(lookup.of_provider(api)), query.filters())
        page = page_of(rows.select_related("credential", "grant", "external_api"), query)
        return Response([connection_item(row) for row in page], headers=total_header(rows, query, page))

    @writes("create_connection", ConnectionInput, ConnectionDetail, "Create a connection", 201)
    def post(self, request: Request, reference: str) -> Response:
        api = providers.find_by_id_or_slug(reference, self.scope)
        row = services.create_connection(api, self.body, self.scope)
        location = reverse("connection", kwargs={"reference": api.pk, "connection_reference": row.pk})
        return Response(connection_detail(row), status=201, headers={"Location": location})


class ConnectionView(ManagementView):
    """What the views of one connection share."""

    model = ExternalApiConnection

    def find(self, reference: str, connection_reference: str) -> ExternalApiConnection:
        api: ExternalApi = providers.find_by_id_or_slug(reference, self.scope)
        return lookup.find_of_provider(api, connection_reference, self.scope)


class ConnectionPage(ConnectionView):
    @reads("get_connection", ConnectionDetail, "Show a connection")
    def get(self, request: Request, reference: str, connection_reference: str) -> Response:
        return Response(connection_detail(self.find(reference, connection_reference)))

    @writes(
        "update_connection",
        ConnectionChanges,
        ConnectionDetail,
        "Change a connection; credentials that are not named stay",
    )
    def patch(self, request: Request, reference: str, connection_reference: str) -> Response:
        row = self.find(reference, connection_reference)
        return Response(connection_detail(services.update_connection(row, self.body, self.scope)))

    @deletes("delete_connection", "Delete a connection; the admin can restore it")
    def delete(self, request: Request, reference: str, connection_reference: str) -> HttpResponse:
        services.delete_connection(self.find(reference, connection_reference))
        return Response(status=204)


class ConnectionTest(ConnectionView):
    # It sends the stored credentials out: more than viewing, and it adds nothing.
    permission_actions = {"POST": "change"}  # noqa: RUF012 (a ClassVar of the base class)

    @writes("test_connection", None, TestResult, "Call the provider to see whether the credentials work")
    def post(self, request: Request, reference: str, connection_reference: str) -> Response:
        outcome = services.test_connection(self.find(reference, connection_reference))
        return Response(test_result(outcome))


class ConnectionRefresh(ConnectionView):
    permission_actions = {"POST": "change"}  # noqa: RUF012

    @writes("refresh_connection", None, ConnectionDetail, "Renew the access token now, whether or not it is due")
    def post(self, request: Request, reference: str, connection_reference: str) -> Response:
        row = self.find(reference, connection_reference)
        return Response(connection_detail(services.refresh_token(row.pk, scope=self.scope)))


def _filtered(rows: QuerySet[ExternalApiConnection], filters: dict[str, Any]) -> QuerySet[ExternalApiConnection]:
    search = filters.pop("search", "")
    if search:
        rows = rows.filter(Q(connection_name__icontains=search) | Q(slug__icontains=search))
    return rows.filter(**filters)
