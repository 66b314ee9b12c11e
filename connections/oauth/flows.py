"""Attempts to win a grant: begun, bound to whoever began them, finished once. They make tokens, not connections.

An attempt is a row. Of its state, 256 random bits, only the digest is stored; it belongs to what ``bound_to`` names:
the browser session, API key, link or terminal that began it. It lives for ten minutes and is claimed by one conditional
UPDATE before the provider is asked anything. Attempts of several tabs know nothing of each other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

from django.db import IntegrityError, transaction
from django.utils import timezone
from social_core.exceptions import SocialAuthBaseException

from connections.client import give_back_database_connections
from connections.models import OAuthFlow
from connections.oauth.answers import clean
from connections.oauth.backends import Client, ProviderOAuth2
from connections.oauth.oauth1 import ProviderOAuth1
from connections.oauth.strategy import AttemptStrategy
from connections.oauth.tokens import Tokens
from external_apis.api_config import ApiConfig, OAuth1Config, OAuth2Config, url_values
from external_apis.errors import FlowRefused, InvalidInput
from external_apis.oauth_config import OAuth2
from external_apis.providers import open_config
from external_apis.url_variables import fill_url

__all__ = [
    "FLOW_SECONDS",
    "MAX_PARAMETER",
    "Kept",
    "begin",
    "claim",
    "digest",
    "exchange",
    "fail",
    "find",
    "is_parkable",
    "origin_of",
    "park",
    "parked",
    "require_open",
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


def begin(flow: OAuthFlow, provider_data: Mapping[str, Any], *, origin: str = "", owner_id: str = "") -> str:
    """Store an attempt that names provider, tenant and whom it is bound to; return the URL to which its user goes.

    Raises `InvalidInput` for a provider of another auth type or a URL variable that is missing, `MissingCredential`,
    and for OAuth 1.0a, whose provider is asked for a request token first, what `ProviderOAuth1.begin` raises.
    """
    config = open_config(flow.external_api).api_config
    variables = url_values(config, provider_data)
    kept: dict[str, Any] = {"kept": Kept(dict(provider_data), owner_id, origin).to_json()}
    if isinstance(config, OAuth2Config):
        url, state = _begin_oauth2(config.oauth2, variables, flow, kept)
    elif isinstance(config, OAuth1Config):
        give_back_database_connections()
        token = ProviderOAuth1(config.oauth1, variables, flow.redirect_uri).begin()
        url, state = token.url, f"oauth1:{token.token}"
        flow.kind = OAuthFlow.Kind.OAUTH1
        kept["token_secret"] = token.secret
    else:
        raise InvalidInput(f"Auth type {config.auth_type} has no sign-in at the provider.")
    flow.state_digest, flow.secrets = digest(state), kept
    flow.expires_at = timezone.now() + timedelta(seconds=FLOW_SECONDS)
    _forget_old()
    try:
        with transaction.atomic():
            flow.save()
    except IntegrityError:  # a provider that gives one request token to two people
        raise FlowRefused("The provider gave a request token that is in use.", reason="used") from None
    return url


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


def exchange(flow: OAuthFlow, parameters: Mapping[str, str]) -> tuple[Tokens, Kept]:
    """Turn what a callback brought to a claimed attempt into tokens; return them and what the attempt remembers.

    Raises `FlowRefused` for what the provider or the user refused, for a wrong issuer and a missing verifier;
    `GrantRefused` and `TokenEndpointFailed`. No database connection is held meanwhile.
    """
    secrets, config = dict(flow.secrets), open_config(flow.external_api).api_config
    kept = Kept.from_json(secrets["kept"])
    _refuse_errors(parameters)
    give_back_database_connections()
    if isinstance(config, OAuth2Config):
        tokens = _finish_oauth2(flow, config.oauth2, url_values(config, kept.provider_data), secrets, parameters)
        if tokens.scopes is None:  # what is left out is what was asked for (RFC 6749 5.1)
            tokens = replace(tokens, scopes=tuple(flow.requested_scopes))
    else:
        tokens = _finish_oauth1(flow, config, kept.provider_data, secrets, parameters)
    return tokens, kept


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
        require_open(row)
        if parked(row) is not None:
            raise _used()
        answer = {name: parameters[name] for name in (*_CALLBACK_NAMES, "state") if name in parameters}
        row.secrets = row.secrets.merged({"answer": json.dumps(answer)})
        row.save(update_fields=["secrets"])


def parked(flow: OAuthFlow) -> dict[str, str] | None:
    """Return what `park` kept, None before the browser has come."""
    answer: str | None = flow.secrets.get("answer")
    return None if answer is None else json.loads(answer)


# --- parts --------------------------------------------------------------------------------------------------------


def _begin_oauth2(
    block: OAuth2, variables: Mapping[str, str], flow: OAuthFlow, kept: dict[str, Any]
) -> tuple[str, str]:
    strategy = AttemptStrategy()
    url = ProviderOAuth2(Client(block, variables), strategy, flow.redirect_uri, timezone.now()).auth_url()
    state = dict(parse_qsl(urlsplit(url).query))["state"]
    flow.kind, flow.requested_scopes = OAuthFlow.Kind.AUTHORIZATION_CODE, list(block.scopes)
    transaction_of = strategy.session[f"provider_oauth2_state_{state}"]
    if verifier := transaction_of.get("code_verifier"):
        kept["code_verifier"] = verifier
    return url, state


def _finish_oauth2(
    flow: OAuthFlow,
    block: OAuth2,
    variables: Mapping[str, str],
    secrets: Mapping[str, str],
    parameters: Mapping[str, str],
) -> Tokens:
    _check_issuer(block, variables, parameters.get("iss"))
    if not parameters.get("code"):
        raise FlowRefused("The provider sent neither a code nor an error.", reason="no_code")
    state = parameters["state"]
    session = {
        "state": state,
        "timestamp": int(flow.created_at.timestamp()),
        "code_verifier": secrets.get("code_verifier"),
    }
    strategy = AttemptStrategy({f"provider_oauth2_state_{state}": session}, parameters)
    backend = ProviderOAuth2(Client(block, variables), strategy, flow.redirect_uri, timezone.now())
    try:
        return cast("Tokens", backend.auth_complete())
    except SocialAuthBaseException:  # no verifier is there, because PKCE was off when the attempt began
        raise FlowRefused(
            "The provider's configuration was changed meanwhile. Please begin again.", reason="changed"
        ) from None


def _finish_oauth1(
    flow: OAuthFlow,
    config: ApiConfig,
    provider_data: Mapping[str, Any],
    secrets: Mapping[str, str],
    parameters: Mapping[str, str],
) -> Tokens:
    if not isinstance(config, OAuth1Config):
        raise FlowRefused("The provider's authentication was changed meanwhile. Please begin again.", reason="changed")
    if not parameters.get("oauth_verifier"):
        raise FlowRefused("The provider sent no verifier.", reason="no_verifier")
    variables = url_values(config, provider_data)
    backend = ProviderOAuth1(config.oauth1, variables, flow.redirect_uri, parameters)
    return backend.finish(parameters["oauth_token"], secrets["token_secret"])


def _check_issuer(block: OAuth2, variables: Mapping[str, str], given: str | None) -> None:
    """Compare ``iss`` (RFC 9207): against mix-ups, in which one provider's code is sent to another.

    Without a configured issuer it has to be at the authorization endpoint's own origin.
    """
    if given is None:
        if block.iss_required:
            raise FlowRefused("The provider did not say who it is (iss).", reason="wrong_issuer")
        return
    if block.issuer:
        is_right = given == fill_url(block.issuer, variables)
    else:
        is_right = _origin(given) == _origin(fill_url(block.authorization_url, variables))
    if not is_right:
        raise FlowRefused("The answer came from another issuer than the provider's (iss).", reason="wrong_issuer")


def _used() -> FlowRefused:
    return FlowRefused("This attempt to connect was finished before. Please begin again.", reason="used")


def _origin(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", ""
    return parts.scheme, parts.netloc.lower()


def _refuse_errors(parameters: Mapping[str, str]) -> None:
    error = parameters.get("error") or parameters.get("oauth_problem") or ("denied" if "denied" in parameters else "")
    if not error:
        return
    description = parameters.get("error_description", "")
    secrets: Collection[str] = [parameters[name] for name in ("code", "state") if parameters.get(name)]
    words = clean(f"{error}: {description}" if description else error, secrets)
    is_denied = error in ("access_denied", "denied", "user_refused", "permission_denied")
    raise FlowRefused(f"The provider refused: {words}", reason="denied" if is_denied else "provider_error")


def digest(state: str) -> str:
    """Return what is stored of a state."""
    return hashlib.sha256(state.encode(errors="surrogatepass")).hexdigest()


def _forget_old() -> None:
    """Delete some attempts that ended more than a day ago; each new one sweeps behind a hundred old ones."""
    old = OAuthFlow.objects.filter(expires_at__lt=timezone.now() - _FORGOTTEN_AFTER).order_by("expires_at")
    OAuthFlow.objects.filter(pk__in=list(old.values_list("pk", flat=True)[:_FORGOTTEN_AT_ONCE])).delete()
