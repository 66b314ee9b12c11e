"""social-core's OAuth backends, read into our schema: who gives tokens where, and in which dialect.

A backend is a class that describes a provider partly in attributes and partly in methods, so it is asked rather than
parsed: its own methods give the URLs, under a strategy that has no settings, and a request that it would send is
caught instead. An unset setting inside a URL becomes a URL variable of the connections (``https://{slug}.example.com``).

social-core describes log-in, not an API: ``base_url`` is the origin from which a backend reads the user's profile, or
else the origin of its token URL, and operators put the API's own path there. Importing all the backends takes half a
second, so this is read when the catalogue is seeded, never when the product starts.
"""

from __future__ import annotations

import pkgutil
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from typing import Any, NoReturn
from urllib.parse import urlsplit

import social_core.backends
from requests.auth import AuthBase
from social_core.backends.oauth import BaseOAuth1, OAuthAuth
from social_core.backends.open_id_connect import OpenIdConnectAuth
from social_core.strategy import BaseStrategy

from external_apis.api_config import parse
from external_apis.catalogue.presets import Preset
from external_apis.errors import InvalidConfiguration
from external_apis.models.providers import Category
from external_apis.url_variables import names_in

__all__ = ["Backends", "read"]

_STATE = "state"
_TOKEN_URLS = ("token_url", "access_token_url", "discovery_url")
_DISCOVERED = ("authorization_url", "token_url")
_FLOW_PARAMS = frozenset({
    "client_id", "client_secret", "code", "code_challenge", "code_challenge_method", "code_verifier", "grant_type",
    "nonce", "redirect_uri", "response_type", "scope", "state",
})  # fmt: skip
_USUAL = {
    "scope_separator": " ",
    "scope_parameter": "scope",
    "token_request": "form",
    "client_auth": "body",
    "authorize_params": {},
    "token_params": {},
}
_DOCS = re.compile(r"https://[^\s<>\"'`,)]+[^\s<>\"'`,.)]")
# social-core knows no categories; what is not named here lets people sign in.
_CATEGORIES = {
    Category.PAYMENT: "coinbase monzo patreon paypal stripe",
    Category.STORAGE: "box dropbox",
    Category.CRM: "goclio goclioeu hubspot nationbuilder podio salesforce vend",
    Category.EMAIL: "drip mailchimp",
    Category.COMMUNICATION: "chatwork discord kakao line slack weixin weixinapp yammer zoom",
    Category.ANALYTICS: "grafana surveymonkey",
    Category.SOCIAL: "deezer dribbble facebook flickr foursquare instagram linkedin meetup mixcloud odnoklassniki "
    "pinterest qq reddit soundcloud spotify stocktwits tumblr twitch twitter untappd vimeo vk weibo xing",
    Category.OTHER: "asana atlassian bitbucket digitalocean discogs etsy eventbrite evernote fitbit github gitlab lyft "
    "strava trello tripit uber upwork zotero",
}
_CATEGORY_OF = {name: category for category, names in _CATEGORIES.items() for name in names.split()}


@dataclass(frozen=True)
class Backends:
    """What was read of social-core: presets by backend name, and why each other named backend has none."""

    plain: Mapping[str, Preset]
    """Those whose URLs are known."""
    discovered: Mapping[str, Preset]
    """Those that publish an OpenID Connect discovery document, which tells the URLs."""
    left_out: Mapping[str, str]


class _Asked(Exception):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url


class _Unset(BaseStrategy[Any]):
    """A strategy without settings, and with a session that lasts as long as it does."""

    def __init__(self) -> None:
        super().__init__()
        self._session: dict[str, Any] = {}
        self.has_variables = False
        """Whether a setting without a default is answered by a URL variable of its name."""

    def setting(self, name: str, default: Any = None, backend: Any = None) -> Any:
        return f"{{{name.lower()}}}" if default is None and self.has_variables else default

    def request_data(self, merge: bool = True) -> dict[str, Any]:
        return {}

    def absolute_uri(self, path: str | None = None) -> str:
        return "https://localhost/"

    def session_get(self, name: str, default: Any = None) -> Any:
        return self._session.get(name, default)

    def session_set(self, name: str, value: Any) -> None:
        self._session[name] = value


@cache
def read() -> Backends:
    """Read all backends. Of several under one name the first with plain OAuth 2.0 URLs counts."""
    plain: dict[str, Preset] = {}
    discovered: dict[str, Preset] = {}
    left_out: dict[str, str] = {}
    backends = sorted(_backends(), key=_rank)
    shared_titles = Counter(dict(reversed([(backend.name, backend.title) for backend in backends])).values())
    for backend in backends:
        if backend.name in plain or backend.name in discovered:
            continue
        try:
            preset = _preset(backend)
        except InvalidConfiguration as error:
            left_out.setdefault(backend.name, error.message)
            continue
        if shared_titles[backend.title] > 1:
            preset = replace(preset, name=f"{preset.name} ({preset.slug})")
        left_out.pop(backend.name, None)
        is_discovered = "discovery_url" in preset.api_config[preset.api_config["auth_type"]]
        (discovered if is_discovered else plain)[backend.name] = preset
    return Backends(plain, discovered, left_out)


def _backends() -> Iterator[OAuthAuth[Any]]:
    for module in pkgutil.iter_modules(social_core.backends.__path__):
        try:
            loaded = import_module(f"{social_core.backends.__name__}.{module.name}")
        except ImportError:  # wants a library that is no part of this product
            continue
        for found in vars(loaded).values():
            is_backend = isinstance(found, type) and issubclass(found, OAuthAuth) and found.name
            if is_backend and found.__module__ == loaded.__name__:
                backend = found(_Unset(), "https://localhost/")
                backend.request = _refuse  # nothing may leave from here
                yield backend


def _rank(backend: OAuthAuth[Any]) -> int:
    return 2 if isinstance(backend, BaseOAuth1) else 1 if isinstance(backend, OpenIdConnectAuth) else 0


def _refuse(url: str, **_request: Any) -> NoReturn:
    raise _Asked(url)


def _preset(backend: OAuthAuth[Any]) -> Preset:
    """Raises `InvalidConfiguration` with the reason why a backend cannot be a preset."""
    block_name, block = _auth_block(backend)
    names = sorted({name for key, value in block.items() if key.endswith("_url") for name in names_in(value)})
    source = _profile_url(backend) or next(block[key] for key in _TOKEN_URLS if key in block)
    config: dict[str, Any] = {"base_url": _origin(source), "auth_type": block_name, block_name: block}
    if names:
        config["url_variables"] = {name: {} for name in names}
    # What discovery will tell is missing in what is stored, and stands in here for the check.
    unknown = dict.fromkeys(_DISCOVERED, config["base_url"]) if "discovery_url" in block else {}
    try:
        parse({**config, block_name: {**unknown, **block}}, environment="production")
    except InvalidConfiguration:
        wanted = f": {', '.join(names)}" if names else ""
        raise InvalidConfiguration(f"its addresses need settings of an installation's own{wanted}") from None
    slug = re.sub(r"[^a-z0-9]+", "-", backend.name.lower())
    vendor = slug.partition("-")[0]
    return Preset(
        slug=slug,
        name=backend.title or backend.name,
        category=_CATEGORY_OF.get(vendor, Category.AUTHENTICATION).value,
        provider=vendor,
        docs_url=_docs_url(backend),
        api_config=config,
    )


def _auth_block(backend: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(backend, BaseOAuth1):
        return "oauth1", {
            "request_token_url": backend.REQUEST_TOKEN_URL,
            "authorization_url": _url(backend, backend.authorization_url),
            "access_token_url": _url(backend, backend.access_token_url),
        }
    block: dict[str, Any] = {}
    if isinstance(backend, OpenIdConnectAuth) and not (backend.AUTHORIZATION_URL and backend.ACCESS_TOKEN_URL):
        block["discovery_url"] = _url(backend, backend.oidc_config_url)
    else:
        block["authorization_url"] = _url(backend, backend.authorization_url)
        block["token_url"] = _url(backend, backend.access_token_url)
    if scopes := " ".join(backend.get_scope()).split():
        block["scopes"] = scopes
    return "oauth2", block | _dialect(backend, block)


def _dialect(backend: Any, block: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a backend does otherwise than our schema's defaults; raises for what the schema cannot express."""
    if backend.ACCESS_TOKEN_METHOD != "POST":  # noqa: S105
        raise InvalidConfiguration("it asks for tokens with GET, which puts the client's secret into URLs")
    authorize = _params(backend, lambda: backend.auth_params(_STATE) | backend.auth_extra_arguments())
    token = _params(backend, lambda: backend.auth_complete_params(_STATE))
    extra = {name: value for name, value in token.items() if name not in _FLOW_PARAMS}
    if "client_id" not in authorize or "code" not in token or (extra and "client_id" not in token):
        raise InvalidConfiguration("its requests name the client or the code otherwise than OAuth 2.0 does")
    # What the discovery document will tell, a backend asks for here, and is caught.
    credentials, headers = _asked(backend.auth_complete_credentials), _asked(backend.auth_headers)
    has_header = isinstance(headers, dict) and "Authorization" in headers
    is_basic = has_header or isinstance(credentials, tuple | AuthBase) or "client_id" not in token
    found = {
        # A plus is how a form spells the space.
        "scope_separator": backend.SCOPE_SEPARATOR.replace("+", " "),
        "scope_parameter": backend.SCOPE_PARAMETER_NAME,
        "token_request": backend.ACCESS_TOKEN_PAYLOAD,
        "client_auth": "basic" if is_basic else "body",
        "authorize_params": {name: value for name, value in authorize.items() if name not in _FLOW_PARAMS},
        "token_params": extra,
        "refresh_url": _url(backend, backend.refresh_token_url),
        "revocation_url": _revocation_url(backend),
    }
    usual = {"refresh_url": ("", block.get("token_url")), "revocation_url": ("",)}
    return {name: value for name, value in found.items() if value not in usual.get(name, (_USUAL.get(name),))}


def _params(backend: Any, ask: Callable[[], dict[str, Any]]) -> dict[str, str]:
    """Return the parameters of a request; those of a backend that needs settings for them are taken as usual."""
    backend.strategy.session_set(backend.transaction_key(_STATE), {"state": _STATE})
    backend.data = {"code": "x"}
    found = _asked(ask)
    if not isinstance(found, dict):
        return dict.fromkeys(("client_id", "code"), "")
    return {name: value or "" for name, value in found.items() if value is None or isinstance(value, str)}


def _revocation_url(backend: Any) -> str:
    """Return where the token is revoked as RFC 7009 has it: by POST, under its name, in the body."""
    params = _asked(lambda: backend.revoke_token_params("x", "y"))
    is_usual = backend.REVOKE_TOKEN_METHOD == "POST"  # noqa: S105
    if not is_usual or not isinstance(params, dict) or params.get("token") != "x":
        return ""
    return _url(backend, lambda: backend.revoke_token_url("x", "y"))


def _profile_url(backend: Any) -> str:
    """Return the address at which a backend would read the user's profile, caught before it is asked."""
    token = {"oauth_token": "x", "oauth_token_secret": "x"} if isinstance(backend, BaseOAuth1) else "x"

    def ask() -> str:
        caught = _asked(lambda: backend.user_data(token, response={}))
        return caught.url if isinstance(caught, _Asked) else ""

    return _url(backend, ask)


def _url(backend: Any, ask: Callable[[], str]) -> str:
    """Return an address, with variables for the settings that it cannot do without; if there is none, nothing."""
    for backend.strategy.has_variables in (False, True):
        found = _asked(ask)
        if isinstance(found, str) and found and "None" not in found:
            break
    backend.strategy.has_variables = False
    return found if isinstance(found, str) else ""


def _asked(ask: Callable[[], Any]) -> Any:
    """Return what a backend answers, the `_Asked` of a request that it makes for it, or None where it cannot."""
    try:
        return ask()
    except _Asked as caught:
        return caught
    except Exception:  # a stranger's code, run without the settings and answers that it expects
        return None


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _docs_url(backend: OAuthAuth[Any]) -> str:
    module = import_module(type(backend).__module__)
    found = _DOCS.search(f"{type(backend).__doc__}\n{module.__doc__}")
    return found[0] if found else ""
