"""OAuth 1.0a signatures (RFC 5849, section 3), verified without the library that the client signs with.

So the two cannot agree on the same mistake.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable
from urllib.parse import quote, unquote

from connections.sandbox import credentials
from connections.sandbox.answers import Refusal
from connections.sandbox.oauth.clients import Client
from connections.sandbox.oauth.rsa import is_signed
from connections.sandbox.oauth.tenure import find_good
from connections.sandbox.oauth.tokens import derive_secret
from connections.sandbox.request import Request, parse_pairs
from connections.sandbox.state import State

TOLERANCE_SECONDS = 300
NONCE_CHARACTERS = 200
DIGESTS = {"HMAC-SHA1": hashlib.sha1, "HMAC-SHA256": hashlib.sha256}
METHODS = (*DIGESTS, "RSA-SHA1")
REQUIRED = (
    "oauth_consumer_key",
    "oauth_token",
    "oauth_signature_method",
    "oauth_timestamp",
    "oauth_nonce",
    "oauth_signature",
)

_PARAMETER = re.compile(r'\s*([^\s=,"]+)="([^"]*)"\s*')


SecretOf = Callable[[Client, str], str | None]


def check_oauth1(request: Request, state: State) -> frozenset[str]:
    """Check the ``Authorization: OAuth`` header of a signed request, with the fixed token or one that was issued.

    :raises Refusal: 401 with the reason.
    """

    def secret_of(client: Client, token: str) -> str | None:
        if client.client_id == credentials.OAUTH1_CONSUMER_KEY and token == credentials.OAUTH1_TOKEN:
            return credentials.OAUTH1_TOKEN_SECRET
        with state.lock:
            issued = find_good(token, "oauth1", state.oauth)
        return derive_secret(token) if issued and issued.client_id == client.client_id else None

    read_signed(request, state, secret_of)
    return frozenset({"authorization"})


def read_signed(request: Request, state: State, secret_of: SecretOf | None) -> tuple[Client, dict[str, str]]:
    """The consumer that signed a request, and the OAuth parameters of its header.

    ``secret_of`` knows the secret of a consumer's token, None for a wrong one; without it no token may be sent.

    :raises Refusal: 401 with the reason.
    """
    sent = _read_parameters(request)
    _check_form(sent, has_token=secret_of is not None)
    client = state.oauth.find_client(sent["oauth_consumer_key"])
    if client is None:
        raise refuse("wrong_consumer_key", "The consumer key is not the right one")
    token_secret = secret_of(client, sent["oauth_token"]) if secret_of else ""
    if token_secret is None:
        raise refuse("wrong_token", "The token is not the right one")
    if abs(time.time() - int(sent["oauth_timestamp"])) > TOLERANCE_SECONDS:
        raise refuse("stale_timestamp", f"oauth_timestamp is more than {TOLERANCE_SECONDS} seconds away")
    if not _is_signed(client, token_secret, request, sent):
        raise refuse("signature_mismatch", "The signature does not match the request")
    if not state.use_nonce(f"{sent['oauth_timestamp']}:{sent['oauth_nonce']}"):
        raise refuse("nonce_used", "This nonce was used before")
    return client, sent


def _check_form(sent: dict[str, str], *, has_token: bool) -> None:
    for name in REQUIRED:
        if not sent.get(name) and (has_token or name != "oauth_token"):
            raise refuse("missing_parameter", f"{name} is missing")
    if sent.get("oauth_token") and not has_token:
        raise refuse("unexpected_token", "oauth_token has no place in this request")
    if sent.get("oauth_version", "1.0") != "1.0":
        raise refuse("bad_version", "oauth_version must be 1.0 or absent")
    if sent["oauth_signature_method"] not in METHODS:
        raise refuse("bad_signature_method", f"oauth_signature_method must be one of {', '.join(METHODS)}")
    if not re.fullmatch(r"[0-9]{1,12}", sent["oauth_timestamp"], re.ASCII):
        raise refuse("bad_timestamp", "oauth_timestamp must be whole seconds since 1970")
    if len(sent["oauth_nonce"]) > NONCE_CHARACTERS:
        raise refuse("bad_nonce", f"oauth_nonce is longer than {NONCE_CHARACTERS} characters")


def _read_parameters(request: Request) -> dict[str, str]:
    values = [value for name, value in request.headers if name.lower() == "authorization"]
    if not values:
        raise refuse("missing_header", "The header Authorization is missing")
    if len(values) > 1:
        raise refuse("duplicate_header", f"The header Authorization was sent {len(values)} times")
    scheme, _, rest = values[0].partition(" ")
    if scheme.lower() != "oauth":
        raise refuse("wrong_scheme", "The Authorization header must start with 'OAuth'")
    sent: dict[str, str] = {}
    for part in rest.split(","):
        match = _PARAMETER.fullmatch(part)
        if match is None:
            raise refuse("bad_header", "The OAuth parameters are malformed")
        name = unquote(match[1])
        if name in sent:
            raise refuse("duplicate_parameter", "An OAuth parameter was sent twice")
        sent[name] = unquote(match[2])
    return sent


def _is_signed(client: Client, token_secret: str, request: Request, sent: dict[str, str]) -> bool:
    text, signature = _base_string(request, sent).encode(), sent["oauth_signature"]
    if sent["oauth_signature_method"] == "RSA-SHA1":
        try:
            signed = base64.b64decode(signature, validate=True)
        except ValueError:
            return False
        return client.rsa_key is not None and is_signed(client.rsa_key, "sha1", text, signed)
    key = f"{_escape(client.client_secret or '')}&{_escape(token_secret)}"
    digest = hmac.new(key.encode(), text, DIGESTS[sent["oauth_signature_method"]]).digest()
    return hmac.compare_digest(signature.encode(), base64.b64encode(digest))


def _base_string(request: Request, sent: dict[str, str]) -> str:
    pairs = [(name, value) for name, value in sent.items() if name not in {"oauth_signature", "realm"}]
    pairs += request.pairs
    if request.content_type == "application/x-www-form-urlencoded":
        pairs += parse_pairs(request.body.decode("utf-8", "replace"))
    normal = "&".join(f"{name}={value}" for name, value in sorted((_escape(n), _escape(v)) for n, v in pairs))
    # Section 3.4.1.2: the path as it was sent, and the default port left out.
    url = f"http://{request.host.removesuffix(':80')}{request.target.partition('?')[0]}"
    return "&".join([request.method.upper(), _escape(url), _escape(normal)])


def _escape(text: str) -> str:
    return quote(text, safe="-._~")


def refuse(code: str, message: str) -> Refusal:
    return Refusal(401, code, message, {"WWW-Authenticate": 'OAuth realm="sandbox"'})
