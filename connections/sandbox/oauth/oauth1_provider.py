"""OAuth 1.0a's three legs (RFC 5849, section 2): ``/oauth1/request_token``, ``authorize`` and ``access_token``."""

from __future__ import annotations

import secrets
from urllib.parse import urlencode

from connections.sandbox.answers import Answer, Reply
from connections.sandbox.oauth import clients
from connections.sandbox.oauth.clients import Client
from connections.sandbox.oauth.denials import NO_STORE
from connections.sandbox.oauth.memory import RequestToken
from connections.sandbox.oauth.pages import answer_page, answer_problem, answer_redirect, ask_consent, read_form
from connections.sandbox.oauth.token_requests import FORM
from connections.sandbox.oauth.tokens import derive_secret, issue
from connections.sandbox.oauth1 import read_signed, refuse
from connections.sandbox.request import Request
from connections.sandbox.routing import GET, POST, Route
from connections.sandbox.state import State

PATH = "/oauth1/authorize"


def give_request_token(request: Request, state: State) -> Reply:
    client, sent = read_signed(request, state, None)
    callback = sent.get("oauth_callback", "")
    if callback != "oob" and callback not in client.redirect_uris:
        raise refuse("bad_callback", "oauth_callback is not one that the consumer registered, letter for letter")
    token, temporary = secrets.token_urlsafe(24), RequestToken(client.client_id, callback)
    with state.lock:
        client.counts["request_tokens"] += 1
        state.oauth.request_tokens[token] = temporary
    return _answer(oauth_token=token, oauth_token_secret=temporary.secret, oauth_callback_confirmed="true")


def ask(request: Request, state: State) -> Reply:
    token = request.parameters.get("oauth_token", "")
    temporary = state.oauth.request_tokens.get(token)
    client = state.oauth.find_client(temporary.client_id) if temporary else None
    if temporary is None or temporary.verifier is not None or client is None:
        return answer_problem("This request is unknown, or was answered already.")
    decision = request.parameters.get("sandbox_decision", client.consent)
    if decision == "ask":
        return ask_consent(PATH, client.client_id, (), {"oauth_token": token})
    return _decide(token, decision, state)


def decide(request: Request, state: State) -> Reply:
    form, _ = read_form(request)
    return _decide(form.get("oauth_token", ""), form.get("decision", ""), state)


def _decide(token: str, decision: str, state: State) -> Reply:
    with state.lock:
        temporary = state.oauth.request_tokens.get(token)
        if temporary is None or temporary.verifier is not None:
            return answer_problem("This request is unknown, or was answered already.")
        if decision != "approve":
            del state.oauth.request_tokens[token]
        else:
            temporary.verifier = secrets.token_urlsafe(12)
    if temporary.callback == "oob":
        return answer_page("Your code", f"<p>Type it where you came from: <code>{temporary.verifier or 'none'}</code>")
    if temporary.verifier is None:
        return answer_redirect(temporary.callback, {"denied": token})
    return answer_redirect(temporary.callback, {"oauth_token": token, "oauth_verifier": temporary.verifier})


def give_access_token(request: Request, state: State) -> Reply:
    def secret_of(client: Client, token: str) -> str | None:
        temporary = state.oauth.request_tokens.get(token)
        return temporary.secret if temporary and temporary.client_id == client.client_id else None

    client, sent = read_signed(request, state, secret_of)
    with state.lock:
        client.counts["token_requests"] += 1
        temporary = state.oauth.request_tokens.get(sent["oauth_token"])
        if temporary is None or temporary.verifier is None:
            raise refuse("not_authorized", "The user has not said yes to this token")
        if not secrets.compare_digest(sent.get("oauth_verifier", "").encode(), temporary.verifier.encode()):
            raise refuse("bad_verifier", "oauth_verifier is missing or not the right one")
        del state.oauth.request_tokens[sent["oauth_token"]]
        token = issue("oauth1", state.oauth.start_family(client, []), clients.LIFE_SECONDS)
    return _answer(oauth_token=token, oauth_token_secret=derive_secret(token), user_id="U0SANDBOX")


def _answer(**fields: str) -> Answer:
    return Answer(body=urlencode(fields).encode(), headers=NO_STORE, content_type=FORM)


ROUTES = (
    Route("/oauth1/request_token", give_request_token, POST | GET, "RFC 5849, section 2.1"),
    Route(PATH, lambda request, state: (ask if request.method in GET else decide)(request, state), GET | POST),
    Route("/oauth1/access_token", give_access_token, POST | GET, "RFC 5849, section 2.3"),
)
