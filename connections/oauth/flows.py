"""Attempts to win a grant, as rows: stored, found by their state, claimed once, kept for a program, forgotten.

Of an attempt's state, 256 random bits, only the digest is stored; it belongs to what ``bound_to`` names: the browser
session, API key, link or terminal that began it. It lives for ten minutes and is claimed by one conditional UPDATE
before the provider is asked anything. Attempts of several tabs know nothing of each other. What is sent to the provider
and what its answer means, `connections.oauth.trips` knows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from connections.models import OAuthFlow
from external_apis.errors import FlowRefused, NotFound

__all__ = [
    "FLOW_SECONDS",
    "MAX_PARAMETER",
    "Kept",
    "claim",
    "digest",
    "fail",
    "find",
    "find_answered",
    "is_parkable",
    "origin_of",
    "park",
    "parked",
    "require_open",
    "require_unanswered",
    "store",
]

FLOW_SECONDS = 600
MAX_PARAMETER = 4_000
_FORGOTTEN_AFTER = timedelta(days=1)
_FORGOTTEN_AT_ONCE = 100
_PARKABLE = ("key:", "terminal:")
_CALLBACK_NAMES = (
    "code",
    "iss",
    "oauth_token",
    "oauth_verifier",
    "denied",
    "oauth_problem",
    "error",
    "error_description",
)


@dataclass(frozen=True, slots=True)
class Kept:
    """What an attempt remembers for the connection that it makes, and where its browser was."""

    provider_data: dict[str, Any]
    owner_id: str = ""
    origin: str = ""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Kept:
        return cls(**json.loads(text))


def store(flow: OAuthFlow, state: str, secrets: Mapping[str, Any]) -> None:
    """Store an attempt under its state, for ten minutes. Raises `FlowRefused` for a state that is in use."""
    flow.state_digest, flow.secrets = digest(state), dict(secrets)
    flow.expires_at = timezone.now() + timedelta(seconds=FLOW_SECONDS)
    _forget_old()
    try:
        with transaction.atomic():
            flow.save()
    except IntegrityError:  # a provider that gives one request token to two people
        raise FlowRefused("The provider gave a request token that is in use.", reason="used") from None


def find(parameters: Mapping[str, str]) -> OAuthFlow:
    """Return the attempt that a callback's parameters belong to. Raises `FlowRefused` where there is none."""
    token = parameters.get("oauth_token") or parameters.get("denied")
    state = parameters.get("state") or (f"oauth1:{token}" if token else "")
    flow = None
    if state and len(state) <= MAX_PARAMETER:
        rows = OAuthFlow.objects.select_related("external_api", "connection", "tenant", "link")
        flow = rows.filter(state_digest=digest(state)).exclude(kind=OAuthFlow.Kind.DEVICE_CODE).first()
    if flow is None:
        raise FlowRefused("This attempt to connect is not known here. Please begin again.", reason="unknown")
    return flow


def find_answered(flow_id: str) -> OAuthFlow:
    """Return an attempt that made a connection, came to nothing, or is kept for a program; else raise `NotFound`."""
    made = [f"made_connection__{name}" for name in ("external_api", "credential", "grant")]
    rows = OAuthFlow.objects.select_related("external_api", "link", *made)
    flow = rows.filter(pk=flow_id).first()
    if flow is None or not (flow.made_connection_id or flow.error or parked(flow) is not None):
        raise NotFound("Nothing is known here of such an attempt to connect.")
    return flow


def claim(flow: OAuthFlow) -> None:
    """Use the attempt up; only the first of several callers gets through. Raises `FlowRefused`."""
    rows = OAuthFlow.objects.filter(pk=flow.pk, used_at=None, expires_at__gt=timezone.now())
    if not rows.update(used_at=timezone.now()):
        require_open(OAuthFlow.objects.get(pk=flow.pk))
        raise _used()


def require_open(flow: OAuthFlow) -> None:
    """Raise `FlowRefused` for an attempt that was used up, or whose time has run out."""
    if flow.used_at is not None:
        raise _used()
    if flow.expires_at <= timezone.now():
        raise FlowRefused("This attempt to connect has expired. Please begin again.", reason="expired")


def require_unanswered(flow: OAuthFlow) -> None:
    """Raise `FlowRefused` for an attempt to which an answer came before, or can come no more."""
    require_open(flow)
    if parked(flow) is not None:
        raise _used()


def fail(flow: OAuthFlow, message: str) -> None:
    """Note why an attempt came to nothing, and let go of its secrets."""
    flow.error = message[:500]
    flow.secrets = {}
    flow.save(update_fields=["error", "secrets"])


def origin_of(flow: OAuthFlow) -> str:
    """Return where the browser was when the attempt began; empty where it was none, or once it is over."""
    return Kept.from_json(flow.secrets["kept"]).origin if "kept" in flow.secrets else ""


def is_parkable(flow: OAuthFlow) -> bool:
    """Tell whether a browser brings the provider's answer to somebody else: to a program or a terminal."""
    return flow.bound_to.startswith(_PARKABLE)


def park(flow: OAuthFlow, parameters: Mapping[str, str]) -> None:
    """Keep the provider's answer, sealed, until whoever began the attempt comes for it. Raises `FlowRefused`."""
    with transaction.atomic():
        row = OAuthFlow.objects.select_for_update().get(pk=flow.pk)
        require_unanswered(row)
        answer = {name: parameters[name] for name in (*_CALLBACK_NAMES, "state") if name in parameters}
        row.secrets = row.secrets.merged({"answer": json.dumps(answer)})
        row.save(update_fields=["secrets"])


def parked(flow: OAuthFlow) -> dict[str, str] | None:
    """Return what `park` kept, None before the browser has come."""
    answer: str | None = flow.secrets.get("answer")
    return None if answer is None else json.loads(answer)


def digest(state: str) -> str:
    """Return what is stored of a state."""
    return hashlib.sha256(state.encode(errors="surrogatepass")).hexdigest()


# --- parts --------------------------------------------------------------------------------------------------------


def _used() -> FlowRefused:
    return FlowRefused("This attempt to connect was finished before. Please begin again.", reason="used")


def _forget_old() -> None:
    """Delete some attempts that ended more than a day ago; each new one sweeps behind a hundred old ones."""
    old = OAuthFlow.objects.filter(expires_at__lt=timezone.now() - _FORGOTTEN_AFTER).order_by("expires_at")
    OAuthFlow.objects.filter(pk__in=list(old.values_list("pk", flat=True)[:_FORGOTTEN_AT_ONCE])).delete()
