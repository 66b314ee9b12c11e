"""What the end of an attempt means for the link that it began with."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone

from connections.connect_links.invitations import done_url, link_path, require_pending
from connections.connect_links.reports import return_url
from connections.models import ConnectLink, ExternalApiConnection
from external_apis import audit

__all__ = ["fulfil", "landing_url"]


def fulfil(link: ConnectLink, connection: ExternalApiConnection, *, at: datetime | None = None) -> None:
    """Use the link up for the connection that was made; call it in the transaction that stores that one.

    ``at`` is when it was used, where that is not now: it has to have been in time.
    Raises `LinkUnusable` where somebody else has used it meanwhile: then nothing is stored.
    """
    now = at or timezone.now()
    rows = ConnectLink.objects.filter(pk=link.pk, used_at=None, expires_at__gt=now)
    if not rows.update(used_at=now, made_connection=connection, error=""):
        link.refresh_from_db()
        require_pending(link)
    link.used_at, link.made_connection, link.error = now, connection, ""
    audit.record("connect_link.used", link, {"connection_id": connection.pk})


def landing_url(link: ConnectLink) -> str:
    """Return where the browser goes that holds the link and has tried it.

    That is back to whoever sent it, or the page that tells whoever embeds it. After a failure it is the link's page,
    which says why and lets it be tried again; it is for nobody but the browser that began.
    """
    if link.used_at is None:
        return link_path(link)
    return done_url(link) if link.origin else return_url(link) or done_url(link)
