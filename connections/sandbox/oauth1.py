"""OAuth 1.0a signatures (RFC 5849, section 3), verified without the library that the client signs with.

So the two cannot agree on the same mistake.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from urllib.parse import quote, unquote

from connections.sandbox import credentials
from connections.sandbox.answers import Refusal
from connections.sandbox.request import Request, parse_pairs
from connections.sandbox.state import State

TOLERANCE_SECONDS = 300
NONCE_CHARACTERS = 200
DIGESTS = {"HMAC-SHA1": hashlib.sha1, "HMAC-SHA256": hashlib.sha256}
REQUIRED = (
    "oauth_consumer_key",
    "oauth_token",
    "oauth_signature_method",
    "oauth_timestamp",
    "oauth_nonce",
    "oauth_signature",
)

_PARAMETER = re.compile(r'\s*([^\s=,"]+)="([^"]*)"\s*')


def check_oauth1(request: Request, state: State) -> frozenset[str]:
    """Check the ``Authorization: OAuth`` header of a signed request.

    :raises Refusal: 401 with the reason.
    """
    sent = _read_parameters(request)
    _check_form(sent)
    if not hmac.compare_digest(sent["oauth_consumer_key"].encode(), credentials.OAUTH1_CONSUMER_KEY.encode()):
        raise _refuse("wrong_consumer_key", "The consumer key is not the right one")
    if not hmac.compare_digest(sent["oauth_token"].encode(), credentials.OAUTH1_TOKEN.encode()):
        raise _refuse("wrong_token", "The token is not the right one")
    if abs(time.time() - int(sent["oauth_timestamp"])) > TOLERANCE_SECONDS:
        raise _refuse("stale_timestamp", f"oauth_timestamp is more than {TOLERANCE_SECONDS} seconds away")
    if not hmac.compare_digest(sent["oauth_signature"].encode(), _sign(request, sent).encode()):
        raise _refuse("signature_mismatch", "The signature does not match the request")
    if not state.use_nonce(f"{sent['oauth_timestamp']}:{sent['oauth_nonce']}"):
        raise _refuse("nonce_used", "This nonce was used before")
    return frozenset({"authorization"})


def _check_form(sent: dict[str, str]) -> None:
    for name in REQUIRED:
        if not sent.get(name):
            raise _refuse("missing_parameter", f"{name} is missing")
    if sent.get("oauth_version", "1.0") != "1.0":
        raise _refuse("bad_version", "oauth_version must be 1.0 or absent")
    if sent["oauth_signature_method"] not in DIGESTS:
        raise _refuse("bad_signature_method", f"oauth_signature_method must be one of {', '.join(DIGESTS)}")
    if not re.fullmatch(r"[0-9]{1,12}", sent["oauth_timestamp"], re.ASCII):
        raise _refuse("bad_timestamp", "oauth_timestamp must be whole seconds since 1970")
    if len(sent["oauth_nonce"]) > NONCE_CHARACTERS:
        raise _refuse("bad_nonce", f"oauth_nonce is longer than {NONCE_CHARACTERS} characters")


def _read_parameters(request: Request) -> dict[str, str]:
    values = [value for name, value in request.headers if name.lower() == "authorization"]
    if not values:
        raise _refuse("missing_header", "The header Authorization is missing")
    if len(values) > 1:
        raise _refuse("duplicate_header", f"The header Authorization was sent {len(values)} times")
    scheme, _, rest = values[0].partition(" ")
    if scheme.lower() != "oauth":
        raise _refuse("wrong_scheme", "The Authorization header must start with 'OAuth'")
    sent: dict[str, str] = {}
    for part in rest.split(","):
        match = _PARAMETER.fullmatch(part)
        if match is None:
            raise _refuse("bad_header", "The OAuth parameters are malformed")
        name = unquote(match[1])
        if name in sent:
            raise _refuse("duplicate_parameter", "An OAuth parameter was sent twice")
        sent[name] = unquote(match[2])
    return sent


def _sign(request: Request, sent: dict[str, str]) -> str:
    pairs = [(name, value) for name, value in sent.items() if name not in {"oauth_signature", "realm"}]
    pairs += request.pairs
    if request.content_type == "application/x-www-form-urlencoded":
        pairs += parse_pairs(request.body.decode("utf-8", "replace"))
    normal = "&".join(f"{name}={value}" for name, value in sorted((_escape(n), _escape(v)) for n, v in pairs))
    # Section 3.4.1.2: the path as it was sent, and the default port left out.
    url = f"http://{request.host.removesuffix(':80')}{request.target.partition('?')[0]}"
    base = "&".join([request.method.upper(), _escape(url), _escape(normal)])
    key = f"{_escape(credentials.OAUTH1_CONSUMER_SECRET)}&{_escape(credentials.OAUTH1_TOKEN_SECRET)}"
    digest = hmac.new(key.encode(), base.encode(), DIGESTS[sent["oauth_signature_method"]]).digest()
    return base64.b64encode(digest).decode()


def _escape(text: str) -> str:
    return quote(text, safe="-._~")


def _refuse(code: str, message: str) -> Refusal:
    return Refusal(401, code, message, {"WWW-Authenticate": 'OAuth realm="sandbox"'})
