"""A check of AWS Signature Version 4, written from AWS's description of it and from nothing of the client's.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from connections.sandbox import credentials
from connections.sandbox.answers import Refusal
from connections.sandbox.request import Request
from connections.sandbox.state import State

TOLERANCE_SECONDS = 300

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/ ,]+)/([0-9]{8})/([^/ ,]+)/([^/ ,]+)/aws4_request, ?"
    r"SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})"
)


def check_sigv4(request: Request, _state: State) -> frozenset[str]:
    match = _AUTHORIZATION.fullmatch(request.header("Authorization") or "")
    if match is None:
        raise _refuse("bad_authorization", "The Authorization header is not one of AWS4-HMAC-SHA256")
    key_id, day, region, service, signed, signature = match.groups()
    if key_id != credentials.AWS_ACCESS_KEY_ID:
        raise _refuse("wrong_key_id", "The access key id is not the right one")
    if (region, service) != (credentials.AWS_REGION, credentials.AWS_SERVICE):
        raise _refuse("wrong_scope", f"The scope must be {credentials.AWS_REGION}/{credentials.AWS_SERVICE}")
    moment = _check_time(request, day)
    if request.header("X-Amz-Security-Token") != credentials.AWS_SESSION_TOKEN:
        raise _refuse("wrong_session_token", "The session token is missing or not the right one")
    names = signed.split(";")
    if names != sorted(names) or not {"host", "x-amz-date", "x-amz-security-token"} <= set(names):
        raise _refuse("too_little_signed", "Host, X-Amz-Date and X-Amz-Security-Token must be signed, in order")
    scope = f"{day}/{region}/{service}/aws4_request"
    hashed = hashlib.sha256(_canonical_request(request, names).encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashed}"
    if not hmac.compare_digest(_sign(_signing_key(day, region, service), text).hex(), signature):
        raise _refuse("signature_mismatch", "The signature does not match the request")
    return frozenset({"authorization", "x-amz-security-token"})


def _check_time(request: Request, day: str) -> str:
    moment = request.header("X-Amz-Date") or ""
    try:
        sent = datetime.strptime(moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise _refuse("bad_timestamp", "X-Amz-Date must look like 20260131T235959Z") from None
    if not moment.startswith(day):
        raise _refuse("wrong_scope", "The scope's day is not that of X-Amz-Date")
    if abs(time.time() - sent) > TOLERANCE_SECONDS:
        raise _refuse("stale_timestamp", f"X-Amz-Date is more than {TOLERANCE_SECONDS} seconds away from the time here")
    return moment


def _canonical_request(request: Request, names: list[str]) -> str:
    path = request.target.partition("?")[0]
    pairs = sorted(tuple(_encode(unquote(part)) for part in _pair(pair)) for pair in request.query.split("&") if pair)
    headers = [f"{name}:{' '.join((request.header(name) or '').split())}\n" for name in names]
    return "\n".join(
        [
            request.method,
            "/".join(_encode(segment) for segment in path.split("/")),  # as sent, and encoded once more
            "&".join("=".join(pair) for pair in pairs),
            "".join(headers),
            ";".join(names),
            hashlib.sha256(request.body).hexdigest(),
        ]
    )


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _encode(text: str) -> str:
    return quote(text, safe="-_.~")


def _signing_key(day: str, region: str, service: str) -> bytes:
    key = f"AWS4{credentials.AWS_SECRET_ACCESS_KEY}".encode()
    for part in (day, region, service, "aws4_request"):
        key = _sign(key, part)
    return key


def _sign(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def _refuse(code: str, message: str) -> Refusal:
    return Refusal(401, code, message, {"WWW-Authenticate": "AWS4-HMAC-SHA256"})
