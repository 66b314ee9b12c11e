"""What an authorization server says of itself: OpenID Connect Discovery 1.0 and RFC 8414 (OAuth 2.0).

A document is a stranger's: it has to name the issuer at which it was found, and gives nothing but addresses and facts
about the protocol, each checked for its type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from external_apis.documents import fetch_document
from external_apis.egress import Policy
from external_apis.errors import BadAnswer, InvalidInput
from external_apis.transport import Origin

__all__ = ["Metadata", "discover", "oauth2_config"]

_WELL_KNOWN = "/.well-known/"
_OPENID = "/.well-known/openid-configuration"
_OAUTH = "/.well-known/oauth-authorization-server"
_TIMEOUT_SECONDS = 10.0
_SCOPES = ("openid", "profile", "email", "offline_access")
"""Of those that a server supports, the ones that are asked for: who it is, and a refresh token."""


@dataclass(frozen=True)
class Metadata:
    """A document whose issuer is the expected one, and the address at which it was found."""

    issuer: str
    url: str
    document: Mapping[str, Any]

    def text(self, name: str) -> str:
        """Return a value that has to be a text, or nothing. Raises `BadAnswer` for another type."""
        value = self.document.get(name)
        if value is not None and not isinstance(value, str):
            raise BadAnswer(f"The metadata document's {name} is no text.")
        return value or ""

    def texts(self, name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return a list of texts. Raises `BadAnswer` for anything else."""
        value = self.document.get(name)
        if value is None:
            return default
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise BadAnswer(f"The metadata document's {name} is no list of texts.")
        return tuple(value)


def discover(url: str, policy: Policy | None = None) -> Metadata:
    """Fetch the metadata of an issuer, or the document at a ``/.well-known/`` address.

    OpenID Connect's place is asked first, then RFC 8414's. Raises `InvalidInput` for what is no such URL,
    `EgressRefused`, `ConnectFailed`, `CallTimeout`, and `BadAnswer` for an answer that is no metadata of this issuer.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or parts.query or parts.fragment or parts.username is not None:
        raise InvalidInput("An issuer is an https URL without a query, a fragment or a password.")
    deadline = monotonic() + _TIMEOUT_SECONDS
    if _WELL_KNOWN in parts.path:
        return _checked(url, _issuer_of(url), fetch_document(url, deadline=deadline, policy=policy))
    issuer = url.rstrip("/")
    openid, oauth = issuer + _OPENID, urlunsplit(parts._replace(path=_OAUTH + parts.path.rstrip("/")))
    try:
        document = fetch_document(openid, deadline=deadline, policy=policy)
    except BadAnswer as error:
        if error.may_have_happened:
            raise
        try:
            return _checked(oauth, issuer, fetch_document(oauth, deadline=deadline, policy=policy))
        except BadAnswer:
            raise error from None
    return _checked(openid, issuer, document)


def oauth2_config(metadata: Metadata) -> dict[str, Any]:
    """Return the provider configuration (``api_config``) of an authorization server, without secrets.

    Raises `BadAnswer` where it does not say where tokens come from. The base URL is the origin of the user's profile,
    if there is one, else the issuer's: the API's own place is nothing that the document knows.
    """
    authorize, token = metadata.text("authorization_endpoint"), metadata.text("token_endpoint")
    if not authorize or not token:
        raise BadAnswer(f"The metadata of {metadata.issuer} names no authorization_endpoint or no token_endpoint.")
    methods = metadata.texts("token_endpoint_auth_methods_supported", ("client_secret_basic",))
    challenges = metadata.texts("code_challenge_methods_supported", ("S256",))
    supported = metadata.texts("scopes_supported")
    block: dict[str, Any] = {
        "authorization_url": authorize,
        "token_url": token,
        "discovery_url": metadata.url,
        "issuer": metadata.issuer,
        "scopes": [scope for scope in _SCOPES if scope in supported],
        "client_auth": "basic" if "client_secret_basic" in methods else "body",
        "pkce": "S256" in challenges,
        "iss_required": metadata.document.get("authorization_response_iss_parameter_supported") is True,
    }
    for name, endpoint in (
        ("revocation_url", "revocation_endpoint"),
        ("device_authorization_url", "device_authorization_endpoint"),
    ):
        if url := metadata.text(endpoint):
            block[name] = url
    base_url = str(Origin.of(metadata.text("userinfo_endpoint") or metadata.issuer))
    return {"base_url": base_url, "auth_type": "oauth2", "oauth2": block}


def _issuer_of(url: str) -> str:
    """Return the issuer whose document stands at a well-known address: OpenID appends it, RFC 8414 inserts it."""
    before, _, after = url.partition(_WELL_KNOWN)
    _, _, inserted = after.partition("/")
    return f"{before}/{inserted}".rstrip("/") if inserted else before


def _checked(url: str, issuer: str, document: Mapping[str, Any]) -> Metadata:
    metadata = Metadata(issuer, url, document)
    named = metadata.text("issuer")
    # Some write their name with a slash at its end; nothing else may differ.
    if named.rstrip("/") != issuer:
        raise BadAnswer(f"The metadata found at {issuer} is of another issuer.")
    if urlsplit(issuer).scheme == "https":
        for name in document:
            is_address = name.endswith(("_endpoint", "_uri"))
            if is_address and urlsplit(metadata.text(name)).scheme not in ("https", ""):
                raise BadAnswer(f"The metadata of {issuer} names an address without TLS as {name}.")
    return Metadata(named, url, document)
