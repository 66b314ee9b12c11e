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

__all__ = ["MAX_REDIRECTS", "added_by_signing", "next_request"]

MAX_REDIRECTS = 5

_TELLING_LENGTH = 4
_MOST_UNQUOTINGS = 10
_STATUSES = frozenset((301, 302, 303, 307, 308))
_BODY_HEADERS = ("Content-Encoding", "Content-Language", "Content-Location", "Content-Type")
_HARMLESS_HEADERS = frozenset(("accept", "accept-encoding", "accept-language", "user-agent", "x-request-id"))


def next_request(request: Outgoing, answer: Answer, secrets: frozenset[str]) -> Outgoing | None:
    """Return the unsigned request that the answer asks for, or None when it is no redirect.

    To another origin only a GET or HEAD goes, without body, without the caller's headers and cookies, and only if
    nothing in the new URL is one of ``secrets``, however often it is quoted, which a provider that echoes our request
    would hand on. A secret that is too short to be told from chance forbids a query altogether. Raises `EgressRefused`
    for what is not followed, and `BadAnswer` for a Location that is no URL.
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


def added_by_signing(unsigned: Outgoing, signed: Outgoing) -> frozenset[str]:
    """Return the values that signing put into a request: computed ones, such as a Basic pair, are secrets as well."""
    before = unsigned.headers.as_dict()
    added = {value for name, value in signed.headers.as_dict().items() if before.get(name) != value}
    added |= {value.partition(" ")[2].rstrip("=") for value in added}
    query = signed.target.partition("?")[2]
    known = set(unsigned.target.partition("?")[2].split("&"))
    if pairs := [pair for pair in query.split("&") if pair not in known]:
        added |= {query, *(unquote_plus(pair.partition("=")[2]) for pair in pairs)}
    return frozenset(value for value in added if len(value) >= _TELLING_LENGTH)


def _leave_everything_behind(request: Outgoing, secrets: frozenset[str]) -> None:
    host = request.origin.host
    if request.method not in ("GET", "HEAD"):
        raise EgressRefused(f"{host} is refused: a {request.method} is not redirected to another origin.")
    if _may_hold_any(request, secrets - {""}):
        raise EgressRefused(f"{host} is refused: the redirect would take a credential to another origin.")
    request.body = request.upload = None
    request.headers.keep(_HARMLESS_HEADERS)


def _may_hold_any(request: Outgoing, secrets: frozenset[str]) -> bool:
    if "?" in request.target and any(len(secret) < _TELLING_LENGTH for secret in secrets):
        return True
    spellings = _unquote_wholly(request.url)
    if spellings is None:
        return True
    # A host name loses its capitals.
    telling = [secret.casefold() for secret in secrets if len(secret) >= _TELLING_LENGTH]
    return any(secret in spelling.casefold() for secret in telling for spelling in spellings)


def _unquote_wholly(text: str) -> set[str] | None:
    """Return all that a text becomes while it is unquoted until nothing changes, None when that takes too long."""
    spellings = {text}
    for _ in range(_MOST_UNQUOTINGS):
        further = {unquoted(spelling) for spelling in spellings for unquoted in (unquote, unquote_plus)} - spellings
        if not further:
            return spellings
        spellings |= further
    return None
