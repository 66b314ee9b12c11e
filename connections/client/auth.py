"""Authentication: one class for each scheme, and the table of them at the end. A new scheme is a class and a line.

A scheme reads its secrets once, from the connection's credentials or else from the provider's configuration, and signs
every request afresh. It knows nothing of HTTP libraries; `RequestsAuth` lends a scheme to users of requests.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import re
from typing import TYPE_CHECKING, Any, NoReturn, cast
from urllib.parse import quote, urlsplit

import requests
from oauthlib import oauth1
from requests.auth import AuthBase

from connections.client.outgoing import Headers, Outgoing, refuse
from external_apis.errors import MissingCredential
from external_apis.transport import Origin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from connections.client.target import Target
    from external_apis.api_config import ApiKeyConfig, BasicConfig, BearerConfig, HmacConfig, OAuth1Config

__all__ = ["SCHEMES", "RequestsAuth", "Scheme", "make_scheme"]

# At DEBUG it writes tokens and what it signs into the log.
logging.getLogger("oauthlib").setLevel(logging.INFO)

_HEADER_VALUE = re.compile(r"[\x20-\x7e\x80-\xff]*")


class Scheme:
    """Signs requests: override `read` to collect what signing needs, and `sign`."""

    def __init__(self, target: Target) -> None:
        self._target_name = target.name
        self.read(target)

    def read(self, target: Target) -> None:
        """Read the secrets; raises `MissingCredential` that names what is missing."""

    def sign(self, request: Outgoing, now: float) -> None:
        """Put the credential into the request; ``now`` is seconds since 1970."""
        raise NotImplementedError

    def pick(self, target: Target, names: tuple[str, ...], *fallbacks: Any) -> str:
        """Return the first of the connection's credentials that is there, else the provider's own value."""
        for name in names:
            if value := target.credentials.get(name):
                return value
        for secret in fallbacks:
            if secret is not None and (value := secret.get_secret_value()):
                return str(value)
        raise self.missing(names[0])

    def missing(self, name: str) -> MissingCredential:
        return MissingCredential(f"{self._target_name} has no {name}.", details={"credential": name})

    def header_value(self, prefix: str, secret: str, name: str) -> str:
        value = f"{prefix}{secret}"
        if not _HEADER_VALUE.fullmatch(value):
            message = f"The {name} of {self._target_name} holds characters that an HTTP header cannot carry."
            raise MissingCredential(message, details={"credential": name})
        return value

    def __reduce__(self) -> NoReturn:
        raise TypeError("A scheme holds secrets and is not pickled.")


class NoAuth(Scheme):
    def sign(self, request: Outgoing, now: float) -> None:
        """Leave the request as it is."""


class FixedHeaders(Scheme):
    """Schemes whose headers are the same in every request."""

    _headers: tuple[tuple[str, str], ...] = ()

    def sign(self, request: Outgoing, now: float) -> None:
        for name, value in self._headers:
            request.headers[name] = value


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


class Hmac(Scheme):
    """Seed 004's signature over method, path with query as sent, timestamp and body, as the provider configures it."""

    def read(self, target: Target) -> None:
        self._block = cast("HmacConfig", target.config).hmac
        self._secret = self.pick(target, ("hmac_secret",), self._block.secret).encode()
        self._parts = re.split(r"\{(method|path|timestamp|body)\}", self._block.template)

    def sign(self, request: Outgoing, now: float) -> None:
        timestamp = str(int(now))
        values = {
            "method": request.method.encode(),
            "path": request.target.encode(),
            "timestamp": timestamp.encode(),
            "body": request.body or b"",
        }
        payload = b"".join(values[part] if odd else part.encode() for odd, part in _alternate(self._parts))
        digest = hmac.new(self._secret, payload, getattr(hashlib, self._block.algorithm)).digest()
        signature = digest.hex() if self._block.encoding == "hex" else base64.b64encode(digest).decode()
        request.headers[self._block.timestamp_header] = timestamp
        request.headers[self._block.signature_header] = f"{self._block.signature_prefix}{signature}"


class OAuth1(Scheme):
    """RFC 5849 with a stored token; nonce and timestamp are new in every request."""

    def read(self, target: Target) -> None:
        block = cast("OAuth1Config", target.config).oauth1
        self._client = oauth1.Client(
            self.pick(target, ("consumer_key",), block.consumer_key),
            client_secret=self.pick(target, ("consumer_secret",), block.consumer_secret),
            resource_owner_key=self.pick(target, ("oauth_token",)),
            resource_owner_secret=self.pick(target, ("oauth_token_secret",)),
            signature_method=block.signature_method,
        )

    def sign(self, request: Outgoing, now: float) -> None:
        form = "application/x-www-form-urlencoded"  # its fields are signed too, other bodies are not
        is_form = bool(request.body) and (request.headers.get("Content-Type") or "").startswith(form)
        sign: Any = self._client.sign
        try:
            _, headers, _ = sign(
                request.url,
                http_method=request.method,
                body=(request.body or b"").decode() if is_form else None,
                headers={"Content-Type": form} if is_form else {},
            )
        except ValueError:  # the only text here that nobody has encoded or checked is a form of the caller's own
            raise refuse("data", "is no URL-encoded form, although its content type says so") from None
        request.headers["Authorization"] = headers["Authorization"]


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


def make_scheme(target: Target) -> Scheme:
    """Return the scheme of the target's auth type; raises `MissingCredential`."""
    return SCHEMES[target.config.auth_type](target)


def _alternate(parts: list[str]) -> Iterator[tuple[bool, str]]:
    return ((bool(index % 2), part) for index, part in enumerate(parts))


SCHEMES: dict[str, type[Scheme]] = {
    "api_key": ApiKey,
    "basic": Basic,
    "bearer": Bearer,
    "client_credentials": AccessToken,
    "hmac": Hmac,
    "none": NoAuth,
    "oauth1": OAuth1,
    "oauth2": AccessToken,
}
