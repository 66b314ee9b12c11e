"""Links for people without an account here: ``/admin/external-apis/{id}/connect-links``."""

from __future__ import annotations

from typing import Any, Literal

from django.urls import reverse
from pydantic import BaseModel, ConfigDict
from rest_framework.request import Request
from rest_framework.response import Response

from connections.connect_links.invitations import ConnectLinkInput, create_link, find_link, link_url, state_of
from connections.models import ConnectLink, ExternalApiConnection
from external_apis import providers
from external_apis.json_output import Timestamp
from external_apis.management_api.frame import ManagementView
from external_apis.management_api.schema import reads, writes
from external_apis.permissions import ModelPermission

_CHANGE = "connections.change_externalapiconnection"


class NewConnectLink(BaseModel):
    """`url` is shown this once: whoever has it can connect one account."""

    id: str
    url: str
    expires_at: Timestamp


class ConnectLinkStatus(BaseModel):
    """How far a link has come."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    external_api_id: str
    status: Literal["pending", "connected", "expired"]
    connection_id: str | None
    """What it made, or authorised again."""
    sales_channel_id: str | None
    partner_id: str | None
    user_id: str | None
    error: str | None
    """What went wrong at the last attempt of one that is still pending."""
    created_at: Timestamp
    expires_at: Timestamp
    used_at: Timestamp | None


class ConnectLinkPermission(ModelPermission):
    """A link makes a connection or changes one: whoever gives it away may do both."""

    def has_permission(self, request: Request, view: Any) -> bool:
        may_change = request.method != "POST" or bool(request.user.has_perm(_CHANGE))
        return super().has_permission(request, view) and may_change


class ConnectLinkList(ManagementView):
    model = ExternalApiConnection
    permission_classes = (ConnectLinkPermission,)

    @writes("create_connect_link", ConnectLinkInput, NewConnectLink, "Invite somebody to connect an account", 201)
    def post(self, request: Request, reference: str) -> Response:
        api = providers.find_by_id_or_slug(reference, self.scope)
        link = create_link(api, self.body, self.scope)
        made = NewConnectLink(id=link.pk, url=link_url(link), expires_at=link.expires_at)
        location = reverse("connect-link", kwargs={"reference": api.pk, "link_id": link.pk})
        return Response(made.model_dump(mode="json"), status=201, headers={"Location": location})


class ConnectLinkPage(ManagementView):
    model = ExternalApiConnection

    @reads("get_connect_link", ConnectLinkStatus, "Tell how far a connect link has come")
    def get(self, request: Request, reference: str, link_id: str) -> Response:
        api = providers.find_by_id_or_slug(reference, self.scope)
        return Response(_status(find_link(api, link_id, self.scope)))


def _status(link: ConnectLink) -> dict[str, Any]:
    return ConnectLinkStatus(
        id=link.pk,
        external_api_id=link.external_api_id,
        status=state_of(link),
        connection_id=link.made_connection_id,
        sales_channel_id=link.tenant_id,
        partner_id=link.partner_id,
        user_id=link.user_id,
        error=link.error or None,
        created_at=link.created_at,
        expires_at=link.expires_at,
        used_at=link.used_at,
    ).model_dump(mode="json")
