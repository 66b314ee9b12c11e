"""``/api/external/connections``: seed 000's connections in seed 001's envelope.

Fields have camelCase names; ``credentials`` and ``providerData`` are stored documents and keep their own keys.
"""

from __future__ import annotations

from typing import Annotated, Any

from django.db.models import Q
from django.urls import path
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel
from rest_framework.request import Request
from rest_framework.response import Response

from connections import listing, lookup, services
from connections.api import representation
from connections.connection_input import ConnectionChanges, ConnectionInput
from connections.models import ConnectionStatus, ExternalApiConnection
from connections.oauth.revocation import revoke
from external_apis import providers
from external_apis.admin_api.frame import ResourceView
from external_apis.admin_api.operations import CamelAnswer, Deleted, PageQuery, deletes, lists, reads, writes
from external_apis.envelope import camel_keys
from external_apis.provider_input import RowId


class ConnectionSummary(representation.ConnectionItem):
    model_config = ConfigDict(alias_generator=to_camel)


class ConnectionFacts(representation.ConnectionDetail):
    model_config = ConfigDict(alias_generator=to_camel)


class RevokedFacts(ConnectionFacts):
    message: str
    """Whether the provider was told, and what it said."""


class ConnectionBody(ConnectionInput):
    """Credentials go in seed 000's plain keys (``access_token``, ``api_key``, …) and are stored encrypted."""

    model_config = ConfigDict(alias_generator=to_camel)

    external_api_id: Annotated[str, Field(min_length=1, max_length=100)]
    """The provider's id or slug."""


class ConnectionPatch(ConnectionChanges):
    """Credentials that are not mentioned stay, null removes one; ``providerData`` is replaced."""

    model_config = ConfigDict(alias_generator=to_camel)


class ProbeResult(CamelAnswer):
    """What a call of the provider found; ``status`` is the provider's, null where no answer came."""

    ok: bool
    status: int | None
    message: str
    duration_ms: int


class ConnectionQuery(PageQuery):
    search: Annotated[str, Field(max_length=200)] = ""
    """A part of the name or slug."""
    status: ConnectionStatus = ConnectionStatus.ACTIVE
    external_api_id: RowId = ""
    """Of one provider."""
    sales_channel_id: RowId = ""
    """Of one tenant."""
    partner_id: RowId = ""
    user_id: RowId = ""


class ConnectionList(ResourceView):
    @lists("list_admin_connections", "connections:read", ConnectionSummary, ConnectionQuery, "List connections")
    def get(self, request: Request) -> Response:
        filters = self.query.filters()
        search = filters.pop("search", "")
        if "sales_channel_id" in filters:
            filters["tenant_id"] = filters.pop("sales_channel_id")
        rows = lookup.in_scope(self.scope).filter(**filters)
        if search:
            rows = rows.filter(Q(connection_name__icontains=search) | Q(slug__icontains=search))
        return self.page(rows, lambda row: camel_keys(representation.connection_item(row)), read=listing.read)

    @writes(
        "create_admin_connection",
        "connections:write",
        ConnectionBody,
        ConnectionFacts,
        "Create a connection",
        status=201,
    )
    def post(self, request: Request) -> Response:
        data = dict(self.given)
        api = providers.find_by_id_or_slug(data.pop("external_api_id"), self.scope)
        return self.answer(_shown(services.create_connection(api, data, self.scope)))


class ConnectionPage(ResourceView):
    @reads("get_admin_connection", "connections:read", ConnectionFacts, "Show a connection")
    def get(self, request: Request, connection_id: str) -> Response:
        return self.answer(_shown(lookup.find(connection_id, self.scope)))

    @writes("update_admin_connection", "connections:write", ConnectionPatch, ConnectionFacts, "Change a connection")
    def patch(self, request: Request, connection_id: str) -> Response:
        row = lookup.find(connection_id, self.scope)
        return self.answer(_shown(services.update_connection(row, self.given, self.scope)))

    @deletes("delete_admin_connection", "connections:write", "Delete a connection; the admin can restore it")
    def delete(self, request: Request, connection_id: str) -> Response:
        services.delete_connection(lookup.find(connection_id, self.scope))
        return self.answer(Deleted(id=connection_id).model_dump(by_alias=True))


class ConnectionRefresh(ResourceView):
    @writes("refresh_admin_connection", "connections:write", None, ConnectionFacts, "Renew the access token now")
    def post(self, request: Request, connection_id: str) -> Response:
        return self.answer(_shown(services.refresh_token(connection_id, scope=self.scope)))


class ConnectionRevoke(ResourceView):
    @writes(
        "revoke_admin_connection", "connections:write", None, RevokedFacts, "Tell the provider, and remove the tokens"
    )
    def post(self, request: Request, connection_id: str) -> Response:
        done = revoke(lookup.find(connection_id, self.scope))
        return self.answer({**_shown(done.connection), "message": done.message})


class ConnectionTest(ResourceView):
    @writes(
        "test_admin_connection",
        "connections:write",
        None,
        ProbeResult,
        "Call the provider to see whether the credentials work",
    )
    def post(self, request: Request, connection_id: str) -> Response:
        outcome = services.test_connection(lookup.find(connection_id, self.scope))
        return self.answer(camel_keys(representation.test_result(outcome)))


def _shown(row: ExternalApiConnection) -> dict[str, Any]:
    return camel_keys(representation.connection_detail(row))


routes = [
    path("connections", ConnectionList.as_view()),
    path("connections/<str:connection_id>", ConnectionPage.as_view()),
    path("connections/<str:connection_id>/refresh", ConnectionRefresh.as_view()),
    path("connections/<str:connection_id>/revoke", ConnectionRevoke.as_view()),
    path("connections/<str:connection_id>/test", ConnectionTest.as_view()),
]
