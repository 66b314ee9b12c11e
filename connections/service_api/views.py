"""Services, their credentials and the claims of who asks: ``/exsvc`` (seed 002)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from django.urls import reverse
from rest_framework.request import Request
from rest_framework.response import Response

from connections.service_api import credentials, registry
from connections.service_api.bodies import CredentialsInput, ServiceChanges, ServiceInput, ServiceQuery
from connections.service_api.frame import ServiceView, serves
from connections.service_api.representation import (
    DeletedService,
    Service,
    ServiceClaims,
    ServiceCredentials,
    Services,
    shown_credentials,
    shown_page,
    shown_service,
    stored_credentials,
)
from external_apis.models import ExternalApi
from external_apis.paging import recent_total, rows_between

READ, WRITE, READ_CREDENTIALS = "services:read", "services:write", "credentials:read"


class ServiceList(ServiceView):
    query: ServiceQuery

    @serves("list_services", READ, "List all services", Services, query=ServiceQuery)
    def get(self, request: Request) -> Response:
        rows = registry.matching(self.scope, self.query.filters())
        page = rows_between(rows, self.query.offset, self.query.limit)
        return Response(shown_page(page, recent_total(rows), self.query.limit, self.query.offset))

    @serves("create_service", WRITE, "Create a service", Service, ServiceInput, status=201)
    def post(self, request: Request) -> Response:
        api = registry.create(self.body, self.scope)
        return Response(shown_service(api), status=201, headers={"Location": reverse("service", args=[api.pk])})


class OneService(ServiceView):
    """What the views of one service share."""

    def find(self, service_id: str) -> ExternalApi:
        return registry.find(service_id, self.scope)


class ServicePage(OneService):
    @serves("get_service", READ, "Get a service by its id", Service)
    def get(self, request: Request, service_id: str) -> Response:
        return Response(shown_service(self.find(service_id)))

    @serves("replace_service", WRITE, "Replace a service: what is left out has its default", Service, ServiceInput)
    def put(self, request: Request, service_id: str) -> Response:
        api = registry.update(self.find(service_id), self.body, self.scope, is_whole=True)
        return Response(shown_service(api))

    @serves("update_service", WRITE, "Change what is given of a service", Service, ServiceChanges)
    def patch(self, request: Request, service_id: str) -> Response:
        api = registry.update(self.find(service_id), self.body, self.scope, is_whole=False)
        return Response(shown_service(api))

    @serves("delete_service", WRITE, "Delete a service; the admin can restore it", DeletedService)
    def delete(self, request: Request, service_id: str) -> Response:
        registry.delete(self.find(service_id), self.scope)
        return Response(DeletedService(id=service_id).model_dump())


class ServiceCredentialsPage(OneService):
    @serves(
        "get_service_credentials",
        READ_CREDENTIALS,
        "Get the tenant's credentials of a service, in clear; each reading is in the audit log",
        ServiceCredentials,
    )
    def get(self, request: Request, service_id: str) -> Response:
        return Response(shown_credentials(*credentials.read(self.find(service_id), self.scope)))

    @serves(
        "store_service_credentials",
        WRITE,
        "Store the tenant's credentials of a service in place of those that there are",
        ServiceCredentials,
        CredentialsInput,
    )
    def put(self, request: Request, service_id: str) -> Response:
        return Response(stored_credentials(credentials.store(self.find(service_id), self.body, self.scope)))


class DebugAuth(ServiceView):
    @serves("debug_auth", None, "Show the parsed claims of the token that is sent", ServiceClaims)
    def get(self, request: Request) -> Response:
        claims = cast("Mapping[str, Any]", request.auth)
        shown = ServiceClaims(tenant_id=self.scope.tenant_id, scopes=sorted(self.asker.scopes), claims=dict(claims))
        return Response(shown.model_dump(mode="json"))
