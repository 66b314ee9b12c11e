"""The trip to the provider's page and back: the address that it begins with, and what the answer is turned into.

It makes tokens, not connections. The row of the attempt is kept by `connections.oauth.flows`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

from django.utils import timezone
from social_core.exceptions import SocialAuthBaseException

from connections.models import OAuthFlow
from connections.oauth import flows
from connections.oauth.answers import clean
from connections.oauth.backends import Client, ProviderOAuth2
from connections.oauth.oauth1 import ProviderOAuth1
from connections.oauth.strategy import AttemptStrategy
from connections.oauth.tokens import Tokens
from external_apis.api_config import ApiConfig, OAuth1Config, OAuth2Config, url_values
from external_apis.database_connections import give_back_database_connections
from external_apis.errors import FlowRefused, InvalidInput
from external_apis.oauth_config import OAuth2
from external_apis.providers import open_config
from external_apis.url_variables import fill_url

__all__ = ["begin", "exchange"]


def begin(flow: OAuthFlow, provider_data: Mapping[str, Any], *, origin: str = "", owner_id: str = "") -> str:
    """Store an attempt that names provider, tenant and whom it is bound to; return the URL to which its user goes.

    Raises `InvalidInput` for a provider of another auth type or a URL variable that is missing, `MissingCredential`,
    and for OAuth 1.0a, whose provider is asked for a request token first, what `ProviderOAuth1.begin` raises.
    """
    config = open_config(flow.external_api).api_config
    variables = url_values(config, provider_data)
    kept: dict[str, Any] = {"kept": flows.Kept(dict(provider_data), owner_id, origin).to_json()}
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
    flows.store(flow, state, kept)
    return url


def exchange(flow: OAuthFlow, parameters: Mapping[str, str]) -> tuple[Tokens, flows.Kept]:
    """Turn what a callback brought to a claimed attempt into tokens; return them and what the attempt remembers.

    Raises `FlowRefused` for what the provider or the user refused, for a wrong issuer and a missing verifier;
    `GrantRefused` and `TokenEndpointFailed`. No database connection is held meanwhile.
    """
    secrets, config = dict(flow.secrets), open_config(flow.external_api).api_config
    kept = flows.Kept.from_json(secrets["kept"])
    _refuse_errors(parameters)
    give_back_database_connections()
    if isinstance(config, OAuth2Config):
        tokens = _finish_oauth2(flow, config.oauth2, url_values(config, kept.provider_data), secrets, parameters)
        if tokens.scopes is None:  # what is left out is what was asked for (RFC 6749 5.1)
            tokens = replace(tokens, scopes=tuple(flow.requested_scopes))
    else:
        tokens = _finish_oauth1(flow, config, kept.provider_data, secrets, parameters)
    return tokens, kept


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
