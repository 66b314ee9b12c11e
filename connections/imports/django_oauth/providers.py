"""Which provider here a provider of theirs is: one that is named, one that is here, or one made of the catalogue."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from connections.imports.django_oauth.clients import Clients
from connections.imports.django_oauth.names import candidates
from connections.imports.django_oauth.old_rows import OldClient
from connections.imports.runs import Imported
from connections.models import ImportOutcome
from external_apis import catalogue
from external_apis.adoption import Wishes, adopt
from external_apis.api_config import ApiConfig
from external_apis.catalogue.presets import Preset
from external_apis.errors import ApiManagerError, Conflict, InvalidInput, NotFound
from external_apis.models import ExternalApi, Tenant
from external_apis.oauth_config import BY_CONSENT
from external_apis.providers import find_by_id_or_slug, open_config, update_external_api
from external_apis.tenancy import Scope

__all__ = ["Providers", "Target", "source_key"]

_FIELDS = {"oauth2": ("client_id", "client_secret"), "oauth1": ("consumer_key", "consumer_secret")}


@dataclass
class Target:
    """Where the tokens of one provider and client of theirs go; without an ``api`` nowhere."""

    name: str
    slug: str = ""
    auth_type: str = ""
    api: ExternalApi | None = None
    config: ApiConfig | None = None
    what: str = ""
    """``here``, ``new`` or ``completed``: one that was here and lacked its client."""
    has_client: bool = False
    is_client_assumed: bool = False
    """Nobody tells which client the tokens were given to: it is taken for the provider's own."""
    problem: str = ""


class Providers:
    """Finds or makes each once. ``mapping`` names slugs here for names there; ``known`` are providers' `source_key`s
    that an earlier import made."""

    def __init__(self, tenant: Tenant | None, mapping: Mapping[str, str], clients: Clients) -> None:
        self._scope = Scope(tenant.pk if tenant else None)
        self._mapping, self._clients = mapping, clients
        self._targets: dict[tuple[str, str, str], Target] = {}

    @property
    def targets(self) -> Collection[Target]:
        """Those that were asked for until now."""
        return self._targets.values()

    def check(self) -> None:
        """Raise `NotFound` or `Conflict` where the mapping names a provider that is not here."""
        for slug in self._mapping.values():
            find_by_id_or_slug(slug, self._scope)

    def find(
        self, kind: str, name: str, client: OldClient | None, known: Collection[str]
    ) -> tuple[Target, list[Imported]]:
        """Return where the tokens of a provider of theirs go, and what was made or changed for that; what prevents it
        is its problem. Without a ``client`` the one that is configured counts."""
        client = client or self._clients.find(kind, name)
        key = (kind, name, client.id if client else "")
        target = self._targets.get(key)
        if target is not None:
            return target, []
        made: list[Imported] = []
        try:
            target = self._find(name, client, known, made)
        except ApiManagerError as error:
            target = Target(name, problem=error.message)
        self._targets[key] = target
        return target, made

    def _find(self, name: str, client: OldClient | None, known: Collection[str], made: list[Imported]) -> Target:
        if name in self._mapping:
            api = find_by_id_or_slug(self._mapping[name], self._scope)
            if not self._fits(api, client):
                raise Conflict(f"{api.slug} here is registered with another client id than {name} is there")
            return self._here(name, api, client, made)
        slugs = candidates(name)
        apis = [api for api in map(self._resolve, slugs) if api is not None]
        fitting = next((api for api in apis if self._fits(api, client)), None)
        if fitting is not None:
            return self._here(name, fitting, client, made)
        slug = slugs[0] if slugs else ""
        if apis and client is not None:  # theirs is another client of the same provider
            slug = f"{apis[0].slug}-{hashlib.sha256(client.id.encode()).hexdigest()[:6]}"
            other = self._resolve(slug)
            if other is not None and self._fits(other, client):
                return self._here(name, other, client, made)
        preset = next((preset for preset in map(_preset, slugs) if preset is not None), None)
        if preset is None:
            raise NotFound("the catalogue does not know it (--provider NAME=SLUG names a provider of yours)")
        slug = slug if apis else preset.slug
        if source_key(slug) in known:
            raise NotFound(f"{slug} was imported before and deleted here")
        return self._new(name, slug, preset, client, made)

    def _fits(self, api: ExternalApi, client: OldClient | None) -> bool:
        """A refresh token is good for the client alone that it was given to; nobody's client goes into another's."""
        if client is None:
            return True
        own = _client_id(api)
        return own == client.id if own else api.tenant_id == self._scope.tenant_id

    def _resolve(self, slug: str) -> ExternalApi | None:
        try:
            api = find_by_id_or_slug(slug, self._scope)
        except NotFound:
            return None
        return api if api.auth_type in BY_CONSENT else None

    def _here(self, name: str, api: ExternalApi, client: OldClient | None, made: list[Imported]) -> Target:
        if api.auth_type not in BY_CONSENT:
            raise InvalidInput(f"{api.slug} here is of auth type {api.auth_type}, which has no such tokens")
        what = "here"
        is_assumed = client is None and bool(_client_id(api))
        if client is not None and not _client_id(api):
            what = "completed"
            api = update_external_api(api, {"api_config": {api.auth_type: _block(api.auth_type, client)}})
            made.append(Imported(source_key(api.slug), api, outcome=ImportOutcome.UPDATED))
        has_client = client is not None or is_assumed
        return Target(name, api.slug, api.auth_type, api, open_config(api).api_config, what, has_client, is_assumed)

    def _new(self, name: str, slug: str, preset: Preset, client: OldClient | None, made: list[Imported]) -> Target:
        auth_type = preset.api_config["auth_type"]
        target = Target(name, slug, auth_type, what="new", has_client=client is not None)
        client_id, secret = (client.id, client.secret) if client is not None else ("", "")
        wishes = Wishes(slug=slug, tenant_id=self._scope.tenant_id, client_id=client_id, client_secret=secret)
        target.api = adopt(preset, wishes)
        target.config = open_config(target.api).api_config
        made.append(Imported(source_key(slug), target.api))
        return target


def source_key(slug: str) -> str:
    """Name a provider that was made or completed for runs."""
    return f"provider:{slug}"


def _preset(slug: str) -> Preset | None:
    preset = catalogue.find(slug) or catalogue.shipped().get(slug)
    return preset if preset is not None and preset.api_config["auth_type"] in BY_CONSENT else None


def _client_id(api: ExternalApi) -> str:
    return str(api.secrets.get(f"{api.auth_type}.{_FIELDS[api.auth_type][0]}", "")) if api.auth_type in _FIELDS else ""


def _block(auth_type: str, client: OldClient) -> dict[str, str]:
    client_id, secret = _FIELDS[auth_type]
    return {client_id: client.id, secret: client.secret} if client.secret else {client_id: client.id}
