"""Links for people without an account here: ``/admin/external-apis/{id}/connect-links``."""

from __future__ import annotations

from typing import Any, Literal, TypeGuard

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from pydantic import BaseModel, ConfigDict, RootModel
from rest_framework.request import Request
from rest_framework.response import Response

from connections.connect_links.invitations import ConnectLinkInput, create_link, find_link, link_url, state_of
from connections.connect_links.origins import preflight_headers, sharing_headers
from connections.models import ConnectLink, ExternalApiConnection
from external_apis import providers, request_context
from external_apis.authentication import AnyKeyOrSessionAuthentication, StaffSessionAuthentication
from external_apis.json_output import Timestamp
from external_apis.key_holder import KeyHolder
from external_apis.management_api.frame import ManagementView
from external_apis.management_api.schema import reads, writes
from external_apis.models import KeyType
from external_apis.permissions import ModelPermission
from external_apis.throttling import charge_page

REQUESTS_A_MINUTE = 60
"""From one address with publishable keys: front ends ask again and again."""

_PUBLIC = (
    "A publishable key (`pk_live_`, `pk_test_`) of the link's own tenant and mode sees `id`, `status`, `expires_at` "
    "and `connection_id`, also from pages of `CONNECT_ALLOWED_ORIGINS`."
)
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


class PublicConnectLinkStatus(BaseModel):
    """What a publishable key sees of it."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    id: str
    status: Literal["pending", "connected", "expired"]
    expires_at: Timestamp
    connection_id: str | None
    """What it made, or authorised again."""


class ShownConnectLink(RootModel[ConnectLinkStatus | PublicConnectLinkStatus]):
    """All of it, or what is public."""


def is_publishable(user: Any) -> TypeGuard[KeyHolder]:
    return isinstance(user, KeyHolder) and user.type == KeyType.PUBLISHABLE


class StatusPermission(ModelPermission):
    """Whoever may see connections, and publishable keys, which see what is public of their tenant's."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if is_publishable(request.user):
            return request.method in ("GET", "HEAD")
        return super().has_permission(request, view)


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
    """The one answer that a publishable key reads, and pages of ``CONNECT_ALLOWED_ORIGINS`` with it."""

    authentication_classes = (AnyKeyOrSessionAuthentication, StaffSessionAuthentication)
    permission_classes = (StatusPermission,)
    model = ExternalApiConnection

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        origin = request.headers.get("Origin", "")
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            # A browser asks before it sends the key.
            response: HttpResponseBase = HttpResponse(status=204)
            added = preflight_headers(origin)
        else:
            response = super().dispatch(request, *args, **kwargs)
            added = sharing_headers(origin)
        for name, value in added.items():
            response[name] = value
        patch_vary_headers(response, ["Origin"])
        return response

    def charge_key(self, holder: KeyHolder) -> None:
        """Everybody has a publishable key: each address has its own limit, before that which the key may have."""
        if is_publishable(holder):
            self.charge(charge_page("connect-status", request_context.current().address, REQUESTS_A_MINUTE))
        super().charge_key(holder)

    @reads("get_connect_link", ShownConnectLink, "Tell how far a connect link has come", _PUBLIC, failures=(429,))
    def get(self, request: Request, reference: str, link_id: str) -> Response:
        api = providers.find_by_id_or_slug(reference, self.scope)
        show = _public_status if is_publishable(request.user) else _status
        return Response(show(find_link(api, link_id, self.scope)))


def _public_status(link: ConnectLink) -> dict[str, Any]:
    return PublicConnectLinkStatus(
        id=link.pk, status=state_of(link), expires_at=link.expires_at, connection_id=link.made_connection_id
    ).model_dump(mode="json")


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
