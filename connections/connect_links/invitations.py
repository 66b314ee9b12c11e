"""Make links, recognise them by their signature, and tell how far each has come."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from django.conf import settings
from django.core.signing import BadSignature, Signer
from django.db import transaction
from django.urls import reverse
from django.utils import timezone
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from connections import lookup
from connections.belonging import find_account, find_owner, find_partner, find_tenant
from connections.connect_links.asking import is_by_consent, questions
from connections.connect_links.origins import allowed_origin
from connections.models import ConnectLink
from external_apis import audit, request_context
from external_apis.errors import InvalidInput, LinkUnusable, NotFound
from external_apis.ids import can_name
from external_apis.models import ExternalApi, ProviderStatus
from external_apis.provider_input import Name, RowId, read_body
from external_apis.providers import open_config
from external_apis.tenancy import EVERYTHING, Scope

__all__ = [
    "LONGEST_SECONDS",
    "ConnectLinkInput",
    "State",
    "create_link",
    "done_url",
    "find_link",
    "link_path",
    "link_url",
    "note_failure",
    "open_done",
    "open_link",
    "require_pending",
    "state_of",
]

LONGEST_SECONDS = 7 * 86_400
_FORGOTTEN_AFTER, _FORGOTTEN_AT_ONCE = timedelta(days=90), 100
State = Literal["pending", "connected", "expired"]

_links = Signer(salt="connections.connect_link", sep=".")
_done = Signer(salt="connections.connect_link.done", sep=".")


def _return_url(value: str) -> str:
    if allowed_origin(value) is None:
        raise ValueError("is not a URL below one of CONNECT_ALLOWED_ORIGINS")
    return value


def _origin(value: str) -> str:
    if allowed_origin(value) != value:
        raise ValueError("is not one of CONNECT_ALLOWED_ORIGINS")
    return value


class ConnectLinkInput(BaseModel):
    """Body of ``POST /admin/external-apis/{id}/connect-links``."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)

    sales_channel_id: RowId | None = None
    partner_id: RowId | None = None
    user_id: RowId | None = None
    connection_name: Name | None = None
    """What the new connection is called; unless given, as its provider."""
    connection_id: RowId | None = None
    """The connection that is to be authorised again, instead of a new one."""
    expires_in_seconds: Annotated[int, Field(strict=True, ge=30, le=LONGEST_SECONDS)] = 600
    return_url: Annotated[str, Field(max_length=2000), AfterValidator(_return_url)] | None = None
    """Where the browser goes in the end, with ``connection_id`` and ``status`` added."""
    origin: Annotated[str, Field(max_length=300), AfterValidator(_origin)] | None = None
    """The page that embeds the link or opens it in a window, and is told by ``postMessage``."""


def create_link(api: ExternalApi, data: Mapping[str, Any], scope: Scope = EVERYTHING) -> ConnectLink:
    """Store a link for one tenant, partner or user, or for one connection that needs new credentials.

    Raises `InvalidInput`, also for a provider that asks nothing of anybody, and `NotFound` for rows it refers to.
    """
    body = read_body(ConnectLinkInput, data)
    config = open_config(api).api_config
    if not is_by_consent(config) and not questions(api, config):
        raise InvalidInput("A connection to this provider needs nothing that somebody could be asked for.")
    link = ConnectLink(
        external_api=api,
        connection_name=body.connection_name or "",
        created_by=request_context.current().actor[:200],
        expires_at=timezone.now() + timedelta(seconds=body.expires_in_seconds),
        return_url=body.return_url or "",
        origin=body.origin or "",
    )
    if body.connection_id is not None:
        if body.sales_channel_id or body.partner_id or body.user_id:
            raise InvalidInput("A connection that exists already belongs to whom it belongs.")
        connection = lookup.find_of_provider(api, body.connection_id, scope)
        link.connection = connection
        link.tenant, link.partner, link.user = connection.tenant, connection.partner, connection.user
    else:
        link.tenant = find_tenant(api, body.sales_channel_id, scope)
        link.partner = find_partner(api, body.partner_id, link.tenant)
        link.user = find_account(body.user_id, scope)
        link.owner = find_owner(None, scope)
    with transaction.atomic():
        link.save()
        audit.record("connect_link.created", link, audit.changed_fields(link))
    _forget_old()
    return link


def _forget_old() -> None:
    """Delete some links that ended long ago; each new one sweeps behind a hundred old ones."""
    old = ConnectLink.objects.filter(expires_at__lt=timezone.now() - _FORGOTTEN_AFTER).order_by("expires_at")
    ConnectLink.objects.filter(pk__in=list(old.values_list("pk", flat=True)[:_FORGOTTEN_AT_ONCE])).delete()


def find_link(api: ExternalApi, link_id: str, scope: Scope = EVERYTHING) -> ConnectLink:
    """Return a provider's link by its id. Raises `NotFound`."""
    rows = scope.own(ConnectLink.objects.filter(external_api=api)).select_related("made_connection")
    link = rows.filter(pk=link_id).first() if can_name(link_id) else None
    if link is None:
        raise NotFound("Connect link not found")
    return link


def link_url(link: ConnectLink) -> str:
    """Return the address that is given away: whoever has it can use it once."""
    return f"{settings.PUBLIC_BASE_URL}{link_path(link)}"


def link_path(link: ConnectLink) -> str:
    """Return the same within this site, for a browser that has it already."""
    return reverse("connect", args=[_links.sign(link.pk)])


def done_url(link: ConnectLink) -> str:
    """Return the path of the page that says how well it went, for the browser that did it."""
    return reverse("connect-done", args=[_done.sign(link.pk)])


def open_link(token: str) -> ConnectLink:
    """Return the link of a token that may still be used. Raises `LinkUnusable`, which says why it may not."""
    link = _opened(_links, token)
    require_pending(link)
    if link.external_api.is_deleted or (link.connection is not None and link.connection.is_deleted):
        raise LinkUnusable("What this link is for does not exist any more.")
    tenants = (link.external_api.tenant, link.tenant)
    is_off = any(tenant is not None and not tenant.is_active for tenant in tenants)
    if is_off or link.external_api.status == ProviderStatus.INACTIVE:
        raise LinkUnusable("What this link is for is switched off at the moment.")
    return link


def open_done(token: str) -> ConnectLink:
    """Return the link of a token that `done_url` made. Raises `LinkUnusable`."""
    return _opened(_done, token)


def state_of(link: ConnectLink, now: datetime | None = None) -> State:
    if link.used_at is not None:
        return "connected"
    return "expired" if link.expires_at <= (now or timezone.now()) else "pending"


def require_pending(link: ConnectLink) -> None:
    """Raise `LinkUnusable` for a link that was used or has expired."""
    if (state := state_of(link)) != "pending":
        raise LinkUnusable(_PROBLEMS[state])


def note_failure(link: ConnectLink, message: str) -> None:
    """Keep what went wrong, for whoever made the link. It stays usable."""
    link.error = message[:500]
    ConnectLink.objects.filter(pk=link.pk, used_at=None).update(error=link.error)


_PROBLEMS: Mapping[State, str] = {
    "connected": "This link has been used already.",
    "expired": "This link has expired. Ask whoever gave it to you for a new one.",
}


def _opened(signer: Signer, token: str) -> ConnectLink:
    try:
        link_id = signer.unsign(token)
    except BadSignature:
        raise LinkUnusable("This link is not valid. Perhaps a part of it was lost on the way.") from None
    rows = ConnectLink.objects.select_related(
        "external_api__tenant", "connection__credential", "tenant", "partner", "user"
    )
    link = rows.filter(pk=link_id).first()
    if link is None:
        raise LinkUnusable("What this link is for does not exist any more.")
    return link
