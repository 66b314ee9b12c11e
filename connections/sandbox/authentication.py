"""One check for each scheme, and the table of them at the end.

A check answers with the names of the headers or query parameters that it read, and raises a 401 with the reason
otherwise. It takes no credential twice and quotes none.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import time
from collections.abc import Callable

from connections.sandbox import credentials
from connections.sandbox.answers import Refusal
from connections.sandbox.dialects.twilio import ACCOUNT_SID
from connections.sandbox.oauth.tenure import find_good
from connections.sandbox.oauth1 import check_oauth1
from connections.sandbox.request import Request
from connections.sandbox.sigv4 import check_sigv4
from connections.sandbox.state import State

TOLERANCE_SECONDS = 300

Check = Callable[[Request, State], frozenset[str]]


def refuse(code: str, message: str, challenge: str) -> Refusal:
    return Refusal(401, code, message, {"WWW-Authenticate": challenge})


def _check_none(_request: Request, _state: State) -> frozenset[str]:
    return frozenset()


def _check_bearer(expected: str) -> Check:
    def check(request: Request, _state: State) -> frozenset[str]:
        token = _read_authorization(request, "Bearer")
        if not _is_same(token, expected):
            raise refuse("wrong_token", "The bearer token is not the right one", "Bearer")
        return frozenset({"authorization"})

    return check


def _check_issued(expected: str) -> Check:
    """The fixed token, or one that the authorization server issued."""

    def check(request: Request, state: State) -> frozenset[str]:
        token = _read_authorization(request, "Bearer")
        with state.lock:
            is_good = _is_same(token, expected) or find_good(token, "access", state.oauth) is not None
        if not is_good:
            message = "The bearer token is not the right one, or not good any more"
            raise refuse("wrong_token", message, 'Bearer error="invalid_token"')
        return frozenset({"authorization"})

    return check


def _check_basic(request: Request, _state: State) -> frozenset[str]:
    challenge = 'Basic realm="sandbox"'
    encoded = _read_authorization(request, "Basic", challenge)
    try:
        username, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise refuse("bad_encoding", "What follows Basic is not Base64 of UTF-8 text", challenge) from error
    if not colon:
        raise refuse("bad_encoding", "What follows Basic has no colon in it", challenge)
    # At Twilio the account's SID is the user name.
    if not (_is_same(username, credentials.BASIC_USERNAME) or _is_same(username, ACCOUNT_SID)):
        raise refuse("wrong_username", "The user name is not the right one", challenge)
    if not _is_same(password, credentials.BASIC_PASSWORD):
        raise refuse("wrong_password", "The password is not the right one", challenge)
    return frozenset({"authorization"})


def _check_headers(expected: dict[str, str]) -> Check:
    def check(request: Request, _state: State) -> frozenset[str]:
        for name, secret in expected.items():
            value = _read_header(request, name, "ApiKey")
            if not _is_same(value, secret):
                raise refuse("wrong_key", f"The value of {name} is not the right one", "ApiKey")
        return frozenset(name.lower() for name in expected)

    return check


def _check_query(request: Request, _state: State) -> frozenset[str]:
    name = credentials.API_KEY_QUERY
    values = [value for key, value in request.pairs if key == name]
    if not values:
        raise refuse("missing_parameter", f"The query parameter {name} is missing", "ApiKey")
    if len(values) > 1:
        raise refuse("duplicate_parameter", f"The query parameter {name} was sent {len(values)} times", "ApiKey")
    if not _is_same(values[0], credentials.QUERY_API_KEY):
        raise refuse("wrong_key", f"The value of {name} is not the right one", "ApiKey")
    return frozenset({name})


def _check_hmac(request: Request, _state: State) -> frozenset[str]:
    """Seed 004: method, path with query as sent, whole seconds and body, by newlines, SHA-256 in hex."""
    timestamp = _read_header(request, credentials.TIMESTAMP_HEADER, "HMAC")
    signature = _read_header(request, credentials.SIGNATURE_HEADER, "HMAC")
    if not re.fullmatch(r"[0-9]{1,12}", timestamp, re.ASCII):
        raise refuse("bad_timestamp", "The timestamp must be whole seconds since 1970", "HMAC")
    if abs(time.time() - int(timestamp)) > TOLERANCE_SECONDS:
        message = f"The timestamp is more than {TOLERANCE_SECONDS} seconds away from the time here"
        raise refuse("stale_timestamp", message, "HMAC")
    text = "\n".join([request.method, request.target, timestamp, ""]).encode() + request.body
    expected = hmac.new(credentials.HMAC_SECRET.encode(), text, hashlib.sha256).hexdigest()
    if not _is_same(signature, expected):
        message = "The signature does not match method, path with query, timestamp and body"
        raise refuse("signature_mismatch", message, "HMAC")
    return frozenset({credentials.SIGNATURE_HEADER.lower()})


def _read_header(request: Request, name: str, challenge: str) -> str:
    values = [value for key, value in request.headers if key.lower() == name.lower()]
    if not values:
        raise refuse("missing_header", f"The header {name} is missing", challenge)
    if len(values) > 1:
        raise refuse("duplicate_header", f"The header {name} was sent {len(values)} times", challenge)
    return values[0]


def _read_authorization(request: Request, scheme: str, challenge: str | None = None) -> str:
    value = _read_header(request, "Authorization", challenge or scheme)
    sent, space, credential = value.partition(" ")
    if sent.lower() != scheme.lower() or not space:
        raise refuse("wrong_scheme", f"The Authorization header must start with {scheme!r}", challenge or scheme)
    return credential


def _is_same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


def _check_all(*checks: Check) -> Check:
    """Several schemes at once."""

    def check(request: Request, state: State) -> frozenset[str]:
        return frozenset().union(*(each(request, state) for each in checks))

    return check


CHECKS: dict[str, Check] = {
    "api-key-header": _check_headers({credentials.API_KEY_HEADER: credentials.API_KEY}),
    "api-key-query": _check_query,
    "aws-sigv4": check_sigv4,
    "basic": _check_basic,
    "bearer": _check_bearer(credentials.BEARER_TOKEN),
    "bearer-and-key": _check_all(
        _check_bearer(credentials.BESIDE_TOKEN), _check_headers({credentials.API_KEY_HEADER: credentials.BESIDE_KEY})
    ),
    "client-credentials": _check_issued(credentials.CLIENT_CREDENTIALS_TOKEN),
    "headers": _check_headers(
        {credentials.APP_ID_HEADER: credentials.APP_ID, credentials.APP_KEY_HEADER: credentials.APP_KEY}
    ),
    "hmac": _check_hmac,
    "none": _check_none,
    "oauth1": check_oauth1,
    "oauth2": _check_issued(credentials.OAUTH2_ACCESS_TOKEN),
}
