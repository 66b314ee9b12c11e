"""Requests of machines to the token, revocation and device endpoints: their fields, and which client sends them."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from urllib.parse import unquote_plus

from connections.sandbox.answers import Refusal
from connections.sandbox.oauth.clients import Client
from connections.sandbox.oauth.denials import Denial
from connections.sandbox.oauth.memory import Memory
from connections.sandbox.request import Request, parse_pairs

FORM, JSON = "application/x-www-form-urlencoded", "application/json"
_CHALLENGE = 'Basic realm="sandbox"'


def read_fields(request: Request) -> dict[str, str]:
    """The fields of the body, a form or a JSON object; raises `Denial` where one is repeated or stands in the URL."""
    if request.query:
        raise Denial("invalid_request", "Parameters belong in the body, never in the URL")
    if request.content_type == JSON:
        return _read_json(request.body)
    if request.content_type != FORM:
        raise Denial("invalid_request", f"The Content-Type must be {FORM}")
    try:
        pairs = parse_pairs(request.body.decode("ascii"))
    except (UnicodeDecodeError, Refusal) as error:
        raise Denial("invalid_request", "The form is malformed") from error
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Denial("invalid_request", "A parameter was sent twice")
    return fields


def _read_json(body: bytes) -> dict[str, str]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Denial("invalid_request", "The body is no JSON") from error
    if not isinstance(fields, dict) or not all(isinstance(value, str) for value in fields.values()):
        raise Denial("invalid_request", "The body must be a JSON object of texts")
    return fields


class Claim:
    """Who says to be the client, in the header or in the body, before it is believed."""

    def __init__(self, request: Request, fields: dict[str, str]) -> None:
        self.method = "none"
        self.client_id = fields.get("client_id", "")
        self.secret = ""
        header = request.header("Authorization")
        if header is not None:
            if "client_secret" in fields:
                raise Denial("invalid_request", "The client must authenticate in one way only")
            named = self.client_id
            self.client_id, self.secret = _read_basic(header)
            self.method = "basic"
            if named and named != self.client_id:
                raise Denial("invalid_request", "The body names another client than the header")
        elif "client_secret" in fields:
            self.secret = fields["client_secret"]
            self.method = "body"

    def prove(self, client: Client | None) -> Client:
        """The client, when what was claimed is true; raises `Denial`."""
        if client is None or client.client_id != self.client_id:
            raise self._denial("The client is unknown")
        if client.client_secret is None:
            if self.method != "none":
                raise self._denial("This client has no secret")
        elif self.method not in client.authentication:
            raise self._denial(f"This client authenticates by {' or '.join(client.authentication)}")
        elif not hmac.compare_digest(self.secret.encode(), client.client_secret.encode()):
            raise self._denial("The client secret is not the right one")
        return client

    def _denial(self, description: str) -> Denial:
        return Denial("invalid_client", description, 401, _CHALLENGE)


def read_client(request: Request, fields: dict[str, str], memory: Memory) -> Client:
    """The client that authenticates itself in this request; raises `Denial`."""
    claim = Claim(request, fields)
    return claim.prove(memory.find_client(claim.client_id))


def _read_basic(header: str) -> tuple[str, str]:
    """RFC 6749, section 2.3.1: id and secret are form-encoded before they are joined."""
    scheme, _, encoded = header.partition(" ")
    try:
        name, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Denial("invalid_client", "The Authorization header is malformed", 401, _CHALLENGE) from error
    if scheme.lower() != "basic" or not colon:
        raise Denial("invalid_client", "The Authorization header is malformed", 401, _CHALLENGE)
    return unquote_plus(name), unquote_plus(password)
