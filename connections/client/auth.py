"""Authentication: one class for each scheme, and the table of them at the end. A new scheme is a class and a line.

A scheme takes its secrets from the connection's credentials or else from the provider's configuration. It knows nothing
of HTTP libraries; `RequestsAuth` lends a scheme to users of requests.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlsplit

import requests
from requests.auth import AuthBase

from connections.client.outgoing import Headers, Outgoing
from connections.client.scheme import FixedHeaders, NoAuth, Scheme
from connections.client.signatures import AwsSigV4, Hmac, OAuth1
from external_apis.errors import MissingCredential
from external_apis.transport import ClientCertificate, Origin
from external_apis.url_variables import fill_text

if TYPE_CHECKING:
    from connections.client.target import Target
    from external_apis.api_config import ApiKeyConfig, BasicConfig, BearerConfig

__all__ = ["SCHEMES", "RequestsAuth", "Scheme", "make_scheme", "read_certificate"]


class Bearer(FixedHeaders):
    """RFC 6750, with the header and prefix of the provider's ``api_key`` block (seed 000's Stripe and SendGrid)."""

    def read(self, target: Target) -> None:
        block = cast("BearerConfig", target.config).api_key
        token = self.pick(target, ("access_token", "api_key"), block.key)
        self._headers = ((block.header_name, self.header_value(block.key_prefix, token, "access_token")),)


class AccessToken(FixedHeaders):
    """A stored OAuth 2.0 access token (RFC 6750)."""

    def read(self, target: Target) -> None:
        token = self.pick(target, ("access_token",))
        self._headers = (("Authorization", self.header_value("Bearer ", token, "access_token")),)


class ApiKey(FixedHeaders):
    """A key in a header, in the query, or several named secrets in a header each."""

    _query = ""

    def read(self, target: Target) -> None:
        block = cast("ApiKeyConfig", target.config).api_key
        if block.location == "headers":
            self._headers = tuple(
                (header, self.header_value("", self.pick(target, (name,), block.keys.get(name)), name))
                for header, name in block.headers.items()
            )
            return
        key = self.pick(target, ("api_key",), block.key)
        if block.location == "query":
            self._query = f"{quote(block.query_name, safe='')}={quote(key, safe='')}"
        else:
            self._headers = ((block.header_name, self.header_value(block.key_prefix, key, "api_key")),)

    def sign(self, request: Outgoing, now: float) -> None:
        super().sign(request, now)
        if self._query:
            request.add_query(self._query)


class Basic(FixedHeaders):
    """RFC 7617 from ``username`` and ``password``, or from one ``user:password`` key (seed 000's Twilio)."""

    def read(self, target: Target) -> None:
        block = cast("BasicConfig", target.config).api_key
        username, password = target.credentials.get("username"), target.credentials.get("password")
        if username and password is not None:  # which may be empty: then the key is the user name
            pair = f"{username}:{password}"
        elif username or password is not None:
            raise self.missing("password" if username else "username")
        else:
            pair = self.pick(target, ("api_key", "username"), block.key)
            pair = pair if ":" in pair else f"{pair}:"
        encoded = base64.b64encode(pair.encode()).decode()
        self._headers = ((block.header_name, f"{block.key_prefix}{encoded}"),)


class Also(Scheme):
    """The auth type's own scheme, and credentials in further headers beside it."""

    def __init__(self, target: Target, first: Scheme) -> None:
        self._first = first
        self.covers_body = first.covers_body
        super().__init__(target)

    def read(self, target: Target) -> None:
        block = target.config.also
        assert block is not None  # noqa: S101 (make_scheme asked)
        values = {name: self.pick(target, (name,), block.keys.get(name)) for name in block.names()}
        self._headers = tuple(
            (header, self.header_value("", fill_text(text, values), header)) for header, text in block.headers.items()
        )

    def sign(self, request: Outgoing, now: float) -> None:
        # First the fixed headers: a signature may cover them.
        for name, value in self._headers:
            request.headers[name] = value
        self._first.sign(request, now)


class RequestsAuth(AuthBase):
    """A scheme as an ``auth`` of requests; ``now`` is a clock in seconds since 1970."""

    def __init__(self, scheme: Scheme, now: Any) -> None:
        self._scheme, self._now = scheme, now

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        parts = urlsplit(str(request.url))
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        body = request.body.encode() if isinstance(request.body, str) else request.body
        headers = Headers({str(name): str(value) for name, value in request.headers.items()})
        outgoing = Outgoing(str(request.method), Origin.of(str(request.url)), target, headers, body)
        self._scheme.sign(outgoing, self._now())
        request.headers.update(outgoing.headers.as_dict())
        request.url = outgoing.url
        return request


def read_certificate(target: Target) -> ClientCertificate | None:
    """Return the client certificate that a connection shows, or None; raises `MissingCredential`."""
    if not target.config.mutual_tls:
        return None
    pair = [target.credentials.get(name) for name in ("client_certificate", "client_key")]
    for name, value in zip(("client_certificate", "client_key"), pair, strict=True):
        if not value:
            raise MissingCredential(f"{target.name} has no {name}.", details={"credential": name})
    try:
        return ClientCertificate.read(*map(str, pair))
    except ValueError as error:
        details = {"credential": "client_certificate"}
        raise MissingCredential(f"The client certificate of {target.name}: {error}.", details=details) from None


def make_scheme(target: Target) -> Scheme:
    """Return the scheme of the target's configuration; raises `MissingCredential`."""
    scheme = SCHEMES[target.config.auth_type](target)
    return Also(target, scheme) if target.config.also else scheme


SCHEMES: dict[str, type[Scheme]] = {
    "api_key": ApiKey,
    "aws_sigv4": AwsSigV4,
    "basic": Basic,
    "bearer": Bearer,
    "client_credentials": AccessToken,
    "hmac": Hmac,
    "jwt_bearer": AccessToken,
    "mtls": NoAuth,  # the transport shows the certificate
    "none": NoAuth,
    "oauth1": OAuth1,
    "oauth2": AccessToken,
}
