"""How a link's end is told to other sites, and the headers that keep its page to them alone."""

from __future__ import annotations

from dataclasses import dataclass

from connections.connect_links.invitations import state_of
from connections.connect_links.origins import allowed_origin, is_allowed, with_parameters
from connections.models import ConnectLink

__all__ = ["OPENER_POLICY", "Report", "headers", "opener_policy", "report_of", "return_url"]

OPENER_POLICY = "Cross-Origin-Opener-Policy"


@dataclass(frozen=True)
class Report:
    """What the page that embeds a link is told. Without an origin nobody is."""

    origin: str
    link: str
    status: str
    connection_id: str


def report_of(link: ConnectLink) -> Report:
    """Return what may be told; the setting decides anew, for links that are older than its last change."""
    origin = link.origin if is_allowed(link.origin) else ""
    return Report(origin, link.pk, _status(link), link.made_connection_id or "")


def return_url(link: ConnectLink) -> str:
    """Return where the browser goes in the end, with the result; empty where the link names nothing that is allowed."""
    if not link.return_url or allowed_origin(link.return_url) is None:
        return ""
    return with_parameters(link.return_url, connection_id=link.made_connection_id or "", status=_status(link))


def headers(link: ConnectLink | None) -> dict[str, str]:
    """Return the page's headers: it runs one script of ours, is framed by one origin, and its address goes nowhere."""
    origin = link.origin if link is not None and is_allowed(link.origin) else ""
    policy = [
        "default-src 'none'",
        "base-uri 'none'",
        "style-src 'self'",
        *(["script-src 'self'"] if origin else []),
        f"frame-ancestors {origin or chr(39) + 'none' + chr(39)}",
    ]
    return {
        "Cache-Control": "no-store",
        "Content-Security-Policy": "; ".join(policy),
        **({OPENER_POLICY: opener_policy(link)} if link is not None else {}),
        "Referrer-Policy": "no-referrer",
        "X-Robots-Tag": "noindex",
    }


def opener_policy(link: ConnectLink) -> str:
    """Return the policy of all answers on a link's way, redirects too.

    Whoever opened the window has to stay reachable for the message; where nobody is told, nobody has to.
    """
    return "unsafe-none" if is_allowed(link.origin) else "same-origin"


def _status(link: ConnectLink) -> str:
    return "connected" if state_of(link) == "connected" else "failed"
