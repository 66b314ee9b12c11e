"""Everything the sandbox serves: the routes of all modules, with and without a scheme in front of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from connections.sandbox import account, breakage, forms, graphql, inspection, misbehaviour, pagination
from connections.sandbox.answers import Refusal, Reply, answer_json
from connections.sandbox.authentication import CHECKS
from connections.sandbox.dialects import facebook, openai, sendgrid, slack, stripe, twilio
from connections.sandbox.oauth import consent, control, device, oauth1_provider, tenure, token_endpoint
from connections.sandbox.redaction import show_headers, show_target
from connections.sandbox.request import Request
from connections.sandbox.routing import GET, Route, Router
from connections.sandbox.server import Application
from connections.sandbox.state import State, now_text

MODULES: tuple[Iterable[Route], ...] = (
    account.ROUTES,
    breakage.ROUTES,
    consent.ROUTES,
    control.ROUTES,
    device.ROUTES,
    facebook.ROUTES,
    forms.ROUTES,
    graphql.ROUTES,
    inspection.ROUTES,
    misbehaviour.ROUTES,
    oauth1_provider.ROUTES,
    openai.ROUTES,
    pagination.ROUTES,
    sendgrid.ROUTES,
    slack.ROUTES,
    stripe.ROUTES,
    tenure.ROUTES,
    token_endpoint.ROUTES,
    twilio.ROUTES,
)


def build_application(callback_origins: Sequence[str] = ()) -> Application:
    """A fresh sandbox with a memory of its own; its sign-in clients may send users back to ``callback_origins``."""
    state = State(callback_origins)

    def answer(request: Request) -> Reply:
        scheme = _enter_scheme(request)
        _record(request, state)
        if scheme is not None:
            request.checked = CHECKS[scheme](request, state)
        return router.find(request).handler(request, state)

    def list_routes(_request: Request, _state: State) -> Reply:
        listed = [{"path": r.pattern, "methods": sorted(r.methods) or "any", "about": r.about} for r in router.routes]
        return answer_json({"routes": listed, "schemes": {name: f"/auth/{name}" for name in CHECKS}})

    router = Router([Route("/", list_routes, GET, "this list"), *(route for routes in MODULES for route in routes)])
    return answer


def _enter_scheme(request: Request) -> str | None:
    """Take ``/auth/<scheme>`` off the path and answer with the scheme, None where there is none."""
    if not request.path.startswith("/auth/"):
        return None
    scheme, slash, rest = request.path.removeprefix("/auth/").partition("/")
    if scheme not in CHECKS:
        raise Refusal(404, "unknown_scheme", f"The schemes are {', '.join(CHECKS)}")
    request.scheme = scheme
    request.prefix = f"/auth/{scheme}"
    request.path = slash + rest or "/"
    return scheme


def _record(request: Request, state: State) -> None:
    if request.path.startswith("/_sandbox/"):
        return
    key = request.header("X-Sandbox-Key") or request.parameters.get("key")
    with state.lock:
        state.ledger.total += 1
    if key is None:
        return
    entry = {
        "time": now_text(),
        "method": request.method,
        "target": show_target(request),
        "headers": show_headers(request),
        "body_bytes": len(request.body),
    }
    with state.lock:
        state.ledger.record(key, entry)
