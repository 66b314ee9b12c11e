"""``/oauth/device_authorization`` and the page on which its user types the code (RFC 8628)."""

from __future__ import annotations

import secrets
import time

from connections.sandbox.answers import Reply, answer_json
from connections.sandbox.oauth import clients
from connections.sandbox.oauth.denials import NO_STORE, Denial, denying
from connections.sandbox.oauth.memory import Device, Memory
from connections.sandbox.oauth.pages import answer_page, answer_problem, ask_consent, read_form
from connections.sandbox.oauth.token_requests import read_client, read_fields
from connections.sandbox.request import Request
from connections.sandbox.routing import GET, POST, Route
from connections.sandbox.state import State

PATH = "/oauth/device"
_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"  # RFC 8628, section 6.1: no vowels, so no words
_FORM = f"<form action='{PATH}'><label>Code <input type=text name=user_code></label><button>Go on</button></form>"


def start(request: Request, state: State) -> Reply:
    fields = read_fields(request)
    client = read_client(request, fields, state.oauth)
    if clients.DEVICE_CODE not in client.grants:
        raise Denial("unauthorized_client", "This client may not use devices")
    scopes = client.choose_scopes(fields.get("scope", ""))
    if scopes is None:
        raise Denial("invalid_scope", "A scope is unknown here")
    code = secrets.token_urlsafe(24)
    letters = "".join(secrets.choice(_LETTERS) for _ in range(8))
    user_code = f"{letters[:4]}-{letters[4:]}"
    interval = client.device_interval_seconds
    with state.lock:
        state.oauth.devices[code] = Device(
            client.client_id, scopes, user_code, time.time() + client.device_seconds, interval
        )
    page = f"http://{request.host}{PATH}"
    return answer_json(
        {
            "device_code": code,
            "user_code": user_code,
            "verification_uri": page,
            "verification_uri_complete": f"{page}?user_code={user_code}",
            "expires_in": client.device_seconds,
            "interval": interval,
        },
        headers=NO_STORE,
    )


def show(request: Request, state: State) -> Reply:
    user_code = request.parameters.get("user_code")
    if user_code is None:
        return answer_page("Connect a device", _FORM)
    device = _find(state.oauth, user_code)
    if device is None:
        return answer_problem("This code is unknown, used or expired.")
    return ask_consent(PATH, device.client_id, device.scopes, {"user_code": device.user_code})


def decide(request: Request, state: State) -> Reply:
    form, ticked = read_form(request)
    with state.lock:
        device = _find(state.oauth, form.get("user_code", ""))
        if device is None:
            return answer_problem("This code is unknown, used or expired.")
        device.decision = "approve" if form.get("decision") == "approve" else "deny"
        device.scopes = [scope for scope in device.scopes if scope in ticked] if ticked else device.scopes
    return answer_page("Done", "<p>You can go back to your device.</p>")


def _find(memory: Memory, user_code: str) -> Device | None:
    wanted = user_code.strip().upper()
    waiting = (device for device in memory.devices.values() if not device.decision and time.time() < device.expires_at)
    return next((device for device in waiting if device.user_code == wanted), None)


ROUTES = (
    Route("/oauth/device_authorization", denying(start), POST, "RFC 8628"),
    Route(PATH, lambda request, state: (show if request.method in GET else decide)(request, state), GET | POST),
)
