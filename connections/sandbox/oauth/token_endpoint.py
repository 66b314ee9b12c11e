"""``/oauth/token``: one function for each grant, and the table of them at the end."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable
from typing import Any

from connections.sandbox.answers import Reply
from connections.sandbox.oauth import clients
from connections.sandbox.oauth.assertions import check_assertion, read_issuer
from connections.sandbox.oauth.clients import Client
from connections.sandbox.oauth.denials import Denial
from connections.sandbox.oauth.memory import Memory
from connections.sandbox.oauth.quirks import answer_failure, style_answer, style_denial
from connections.sandbox.oauth.token_requests import FORM, JSON, Claim, read_fields
from connections.sandbox.oauth.tokens import Family, issue, read
from connections.sandbox.request import Request
from connections.sandbox.routing import POST, Route
from connections.sandbox.state import State

SLOW_DOWN_SECONDS = 5
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")

Give = Callable[[dict[str, Any], Client, Memory], dict[str, Any]]


def answer_token(request: Request, state: State) -> Reply:
    memory = state.oauth
    client: Client | None = None
    try:
        fields = read_fields(request)
        claim = Claim(request, fields)
        grant = fields.get("grant_type", "")
        is_asserted = grant == clients.JWT_BEARER and claim.method == "none" and not claim.client_id
        client = memory.find_client(read_issuer(fields.get("assertion", "")) if is_asserted else claim.client_id)
        failure = _count(client, grant, state)
        if client is not None and failure is not None and not failure.startswith("lost_"):
            return answer_failure(client, failure)
        proven = client if is_asserted and client is not None else claim.prove(client)
        _check_request(request, proven, grant)
        asked = {**fields, "audiences": {f"http://{request.host}{path}" for path in ("", "/oauth/token")}}
        with state.lock:
            answer = _GRANTS[grant](asked, proven, memory)
            proven.counts["answered"] += 1
    except Denial as denial:
        if client is not None:
            with state.lock:
                client.counts[f"refused:{denial.error}"] += 1
        return style_denial(client, denial)
    if failure is not None:
        return answer_failure(proven, failure)
    return style_answer(proven, answer, proven.access_seconds)


def _count(client: Client | None, grant: str, state: State) -> str | None:
    """Count the request, wait where the client's settings say so, and take its failure."""
    if client is None:
        return None
    with state.lock:
        client.counts["token_requests"] += 1
        client.counts[f"grant:{grant if grant in _GRANTS else 'unknown'}"] += 1
        failure = client.take_failure()
    time.sleep(client.delay_seconds)
    return failure


def _check_request(request: Request, client: Client, grant: str) -> None:
    if request.content_type != (JSON if client.token_body == "json" else FORM):
        raise Denial("invalid_request", f"This client sends its token requests as {client.token_body}")
    if grant not in _GRANTS:
        raise Denial("unsupported_grant_type", "The grant type is unknown")
    if grant not in client.grants:
        raise Denial("unauthorized_client", "This client may not use this grant type")


def _give_for_code(fields: dict[str, Any], client: Client, memory: Memory) -> dict[str, Any]:
    code = memory.codes.get(fields.get("code", ""))
    if code is None or code.client_id != client.client_id:
        raise Denial("invalid_grant", "The code is unknown")
    if code.family is not None:
        code.family.is_revoked = True
        client.counts["codes_reused"] += 1
        raise Denial("invalid_grant", "The code was used before: what it gave is revoked")
    if time.time() >= code.expires_at:
        raise Denial("invalid_grant", "The code has expired")
    if fields.get("redirect_uri") != code.redirect_uri:
        raise Denial("invalid_grant", "The redirect URI is not that of the authorization request")
    _check_verifier(fields.get("code_verifier"), code.challenge)
    code.family = memory.start_family(client, code.scopes)
    return _answer_first(client, code.family)


def _check_verifier(verifier: str | None, challenge: str | None) -> None:
    """RFC 7636, section 4.6, S256 alone."""
    if challenge is None:
        if verifier is not None:
            raise Denial("invalid_grant", "A code_verifier came without a code_challenge before it")
        return
    if verifier is None or not _VERIFIER.fullmatch(verifier):
        raise Denial("invalid_grant", "The code_verifier is missing or malformed")
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    if not hmac.compare_digest(digest, challenge):
        raise Denial("invalid_grant", "The code_verifier does not match the code_challenge")


def _give_for_refresh_token(fields: dict[str, Any], client: Client, memory: Memory) -> dict[str, Any]:
    token = read(fields.get("refresh_token", ""), "refresh")
    if token is None or token.client_id != client.client_id:
        raise Denial("invalid_grant", "The refresh token is unknown")
    if token.is_expired:
        raise Denial("invalid_grant", "The refresh token has expired")
    family = memory.family_of(token)
    if family.is_revoked:
        raise Denial("invalid_grant", "The grant was revoked")
    if token.generation != family.generation:
        family.is_revoked = True
        client.counts["refresh_tokens_reused"] += 1
        raise Denial("invalid_grant", "The refresh token was used before: the whole grant is revoked")
    asked = fields.get("scope", "").replace(client.scope_separator, " ").split()
    if not set(asked) <= set(family.scopes):
        raise Denial("invalid_scope", "A refresh cannot add scopes")
    client.counts["refreshed"] += 1
    answer = _answer_without_refresh(client, family)
    if client.refresh_token == "always" and client.rotates:
        family.generation += 1
        answer["refresh_token"] = issue("refresh", family, client.refresh_seconds)
    elif client.refresh_token == "always":
        answer["refresh_token"] = fields["refresh_token"]
    return answer


def _give_for_client(fields: dict[str, Any], client: Client, memory: Memory) -> dict[str, Any]:
    if client.client_secret is None:
        raise Denial("unauthorized_client", "A public client has no credentials of its own")
    return _answer_without_refresh(client, memory.start_family(client, _choose(client, fields.get("scope", ""))))


def _give_for_assertion(fields: dict[str, Any], client: Client, memory: Memory) -> dict[str, Any]:
    claims = check_assertion(client, fields.get("assertion", ""), fields["audiences"])
    if claims.get("iss") != client.client_id:
        raise Denial("invalid_grant", "The assertion comes from another client")
    scope = str(fields.get("scope") or claims.get("scope") or "")
    return _answer_without_refresh(client, memory.start_family(client, _choose(client, scope)))


def _give_for_device(fields: dict[str, Any], client: Client, memory: Memory) -> dict[str, Any]:
    """RFC 8628, section 3.5."""
    device = memory.devices.get(fields.get("device_code", ""))
    now = time.time()
    if device is None or device.client_id != client.client_id or device.decision == "used":
        raise Denial("invalid_grant", "The device code is unknown or used")
    if now >= device.expires_at:
        raise Denial("expired_token", "The device code has expired")
    waited, device.polled_at = now - device.polled_at, now
    if waited < device.interval_seconds:
        device.interval_seconds += SLOW_DOWN_SECONDS
        raise Denial("slow_down", f"Ask every {device.interval_seconds:g} seconds at most")
    if device.decision == "deny":
        raise Denial("access_denied", "The user said no")
    if device.decision != "approve":
        raise Denial("authorization_pending", "The user has not decided yet")
    device.decision = "used"
    return _answer_first(client, memory.start_family(client, device.scopes))


def _choose(client: Client, asked: str) -> list[str]:
    scopes = client.choose_scopes(asked)
    if scopes is None:
        raise Denial("invalid_scope", "A scope is unknown here")
    return scopes


def _answer_without_refresh(client: Client, family: Family) -> dict[str, Any]:
    access = issue("access", family, client.access_seconds)
    return {"access_token": access, "token_type": "Bearer", "scope": family.scopes}


def _answer_first(client: Client, family: Family) -> dict[str, Any]:
    answer = _answer_without_refresh(client, family)
    if clients.REFRESH_TOKEN in client.grants and client.refresh_token != "never":
        answer["refresh_token"] = issue("refresh", family, client.refresh_seconds)
    return answer


_GRANTS: dict[str, Give] = {
    clients.AUTHORIZATION_CODE: _give_for_code,
    clients.REFRESH_TOKEN: _give_for_refresh_token,
    clients.CLIENT_CREDENTIALS: _give_for_client,
    clients.JWT_BEARER: _give_for_assertion,
    clients.DEVICE_CODE: _give_for_device,
}

ROUTES = (Route("/oauth/token", answer_token, POST, "RFC 6749; RFC 7523 and RFC 8628 too"),)
