"""Following redirects (RFC 9110 15.4) without taking a credential to another origin."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote, unquote_plus, urljoin

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from connections.client.outgoing import Outgoing
from external_apis.errors import BadAnswer, EgressRefused
from external_apis.transport import Origin

if TYPE_CHECKING:
    from external_apis.transport import Answer

__all__ = ["MAX_REDIRECTS", "next_request"]

MAX_REDIRECTS = 5

_TELLING_LENGTH = 6
_STATUSES = frozenset((301, 302, 303, 307, 308))
_BODY_HEADERS = ("Content-Encoding", "Content-Language", "Content-Location", "Content-Type")
_HARMLESS_HEADERS = frozenset(("accept", "accept-encoding", "accept-language", "user-agent", "x-request-id"))


def next_request(request: Outgoing, answer: Answer, secrets: frozenset[str]) -> Outgoing | None:
    """Return the unsigned request that the answer asks for, or None when it is no redirect.

    To another origin only a GET or HEAD goes, without body, without the caller's headers and cookies, and only if
    nothing in the new URL is one of ``secrets``, which a provider that echoes our query would hand on. Raises
    `EgressRefused` for what is not followed, and `BadAnswer` for a Location that is no URL.
    """
    location = answer.headers.get("Location")
    if answer.status not in _STATUSES or not location:
        return None
    try:
        parts = parse_url(urljoin(request.url, location))
        origin = Origin.of(parts)
    except (LocationParseError, ValueError):
        raise BadAnswer("The redirect leads to something that is not a URL.", may_have_happened=True) from None
    if request.origin.scheme == "https" and origin.scheme != "https":
        raise EgressRefused(f"{origin.host} is refused: a redirect may not lead from https to http.")
    following = request.copy()
    following.origin, following.target = origin, parts.request_uri
    if answer.status == 303 or (answer.status in (301, 302) and request.method == "POST"):
        following.method = "HEAD" if request.method == "HEAD" else "GET"
        following.body = following.upload = None
        following.headers.remove(_BODY_HEADERS)
    if origin != request.origin:
        _leave_everything_behind(following, secrets)
    return following


def _leave_everything_behind(request: Outgoing, secrets: frozenset[str]) -> None:
    host = request.origin.host
    if request.method not in ("GET", "HEAD"):
        raise EgressRefused(f"{host} is refused: a {request.method} is not redirected to another origin.")
    spellings = (request.target, unquote(request.target), unquote_plus(request.target))
    # Shorter ones than this occur in a URL by chance.
    if any(len(secret) >= _TELLING_LENGTH and secret in spelling for secret in secrets for spelling in spellings):
        raise EgressRefused(f"{host} is refused: the redirect would take a credential to another origin.")
    request.body = request.upload = None
    request.headers.keep(_HARMLESS_HEADERS)
