"""What comes after a token was issued: its use at a resource, its revocation, and the server's own description."""

from __future__ import annotations

from connections.sandbox.answers import Answer, Refusal, Reply, answer_json
from connections.sandbox.oauth.clients import GRANTS
from connections.sandbox.oauth.denials import NO_STORE, denying
from connections.sandbox.oauth.memory import Memory
from connections.sandbox.oauth.token_requests import read_client, read_fields
from connections.sandbox.oauth.tokens import Token, read
from connections.sandbox.request import Request
from connections.sandbox.routing import GET, POST, Route
from connections.sandbox.state import State


def find_good(text: str, kind: str, memory: Memory) -> Token | None:
    """The token, when it is ours, still lives, and was not revoked."""
    token = read(text, kind)
    if token is None or token.is_expired or memory.family_of(token).is_revoked:
        return None
    return token


def show_resource(request: Request, state: State) -> Reply:
    """What the token may do; with ``soft=1`` a bad token gets status 200 and an error inside, as Slack does it."""
    scheme, _, text = (request.header("Authorization") or "").partition(" ")
    with state.lock:
        token = find_good(text, "access", state.oauth) if scheme.lower() == "bearer" else None
    if token is not None:
        return answer_json({"ok": True, "client_id": token.client_id, "scopes": token.scopes, "grant": token.family})
    if "soft" in request.parameters:
        return answer_json({"ok": False, "error": "token_expired"})
    raise Refusal(401, "bad_token", "The token is not good", {"WWW-Authenticate": 'Bearer error="invalid_token"'})


def revoke(request: Request, state: State) -> Reply:
    """RFC 7009: either token ends the whole grant, and a token that is not the client's changes nothing."""
    fields = read_fields(request)
    client = read_client(request, fields, state.oauth)
    text = fields.get("token", "")
    with state.lock:
        client.counts["revocations"] += 1
        token = read(text, "refresh") or read(text, "access")
        if token is not None and token.client_id == client.client_id:
            state.oauth.family_of(token).is_revoked = True
    return Answer(headers=NO_STORE)


def describe(request: Request, _state: State) -> Reply:
    """RFC 8414."""
    issuer = f"http://{request.host}"
    return answer_json(
        {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/oauth/authorize",
            "token_endpoint": f"{issuer}/oauth/token",
            "revocation_endpoint": f"{issuer}/oauth/revoke",
            "device_authorization_endpoint": f"{issuer}/oauth/device_authorization",
            "scopes_supported": ["read", "write"],
            "response_types_supported": ["code"],
            "grant_types_supported": list(GRANTS),
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        }
    )


ROUTES = (
    Route("/oauth/resource", show_resource, GET, "takes issued access tokens; soft=1 refuses with status 200"),
    Route("/oauth/revoke", denying(revoke), POST, "RFC 7009"),
    Route("/.well-known/oauth-authorization-server", describe, GET, "RFC 8414"),
)
