"""``/oauth/authorize``: authorization codes with PKCE, given by a page with two buttons or, if so set, at once."""

from __future__ import annotations

import re
import secrets

from connections.sandbox.answers import Answer, Reply
from connections.sandbox.oauth import clients
from connections.sandbox.oauth.clients import Client
from connections.sandbox.oauth.memory import Code, Consent
from connections.sandbox.oauth.pages import answer_problem, answer_redirect, ask_consent, read_form
from connections.sandbox.request import Request
from connections.sandbox.routing import GET, POST, Route
from connections.sandbox.state import State

PATH = "/oauth/authorize"
STATE_CHARACTERS = 2_000
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


class _Invalid(Exception):
    """An authorization request that is answered with an error at its redirect URI."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error = error
        self.description = description


def ask(request: Request, state: State) -> Reply:
    """Show the page, or decide as ``sandbox_decision`` in the query or the client's ``consent`` says."""
    asked = request.parameters
    client = state.oauth.find_client(asked.get("client_id", ""))
    if client is None:
        return answer_problem("The client is unknown.")
    if len(asked) != len(request.pairs):
        return answer_problem("A parameter was sent twice.")
    uri = asked.get("redirect_uri", "")
    if uri not in client.redirect_uris:
        return answer_problem("The redirect URI is not one that the client registered, letter for letter.")
    try:
        consent = _read(client, uri, asked)
    except _Invalid as invalid:
        back = {"error": invalid.error, "error_description": invalid.description, "state": asked.get("state", "")}
        return answer_redirect(uri, back | _iss(client, request))
    decision = asked.get("sandbox_decision", client.consent)
    if decision != "ask":
        return _decide(consent, decision, consent.scopes, request, state)
    ticket = secrets.token_urlsafe(24)
    with state.lock:
        state.oauth.consents[ticket] = consent
    return ask_consent(PATH, client.client_id, consent.scopes, {"ticket": ticket})


def decide(request: Request, state: State) -> Reply:
    """Take the user's answer; a page is good for one."""
    form, ticked = read_form(request)
    with state.lock:
        consent = state.oauth.consents.pop(form.get("ticket", ""), None)
    if consent is None:
        return answer_problem("This page was used already, or is too old.")
    decision = "approve" if form.get("decision") == "approve" else "deny"
    return _decide(consent, decision, [scope for scope in consent.scopes if scope in ticked], request, state)


def _read(client: Client, uri: str, asked: dict[str, str]) -> Consent:
    if clients.AUTHORIZATION_CODE not in client.grants:
        raise _Invalid("unauthorized_client", "This client may not ask for codes")
    if asked.get("response_type") != "code":
        raise _Invalid("unsupported_response_type", "The response type must be code")
    if not 0 < len(asked.get("state", "")) <= STATE_CHARACTERS:
        raise _Invalid("invalid_request", "A state is required")
    challenge, method = asked.get("code_challenge"), asked.get("code_challenge_method")
    if client.pkce == "refused" and (challenge or method):
        raise _Invalid("invalid_request", "The parameter code_challenge is unknown")
    if client.pkce == "required" and challenge is None:
        raise _Invalid("invalid_request", "A code_challenge is required")
    if challenge is not None and (method != "S256" or not _CHALLENGE.fullmatch(challenge)):
        raise _Invalid("invalid_request", "The code_challenge must be one of S256")
    scopes = client.choose_scopes(asked.get(client.scope_parameter, ""))
    if scopes is None:
        raise _Invalid("invalid_scope", "A scope is unknown here")
    return Consent(client, uri, scopes, asked["state"], challenge)


def _decide(consent: Consent, decision: str, scopes: list[str], request: Request, state: State) -> Answer:
    client = consent.client
    back = {"state": consent.state} | _iss(client, request)
    if decision != "approve":
        error = "access_denied" if decision == "deny" else decision
        description = client.consent_description or "The user said no"
        return answer_redirect(consent.redirect_uri, {"error": error, "error_description": description, **back})
    code = secrets.token_urlsafe(24)
    with state.lock:
        state.oauth.codes[code] = Code(client.client_id, consent.redirect_uri, scopes, consent.challenge)
        client.counts["consents"] += 1
    return answer_redirect(consent.redirect_uri, {"code": code, **back})


def _iss(client: Client, request: Request) -> dict[str, str]:
    """RFC 9207."""
    return {
        "own": {"iss": f"http://{request.host}"},
        "wrong": {"iss": "https://attacker.example"},
        "none": {},
    }[client.iss]


ROUTES = (Route(PATH, lambda request, state: (ask if request.method in GET else decide)(request, state), GET | POST),)
