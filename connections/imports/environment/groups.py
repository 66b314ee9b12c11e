"""One provider's variables and their way into the database.

Which value wins: one that is not stored yet is taken; one that has changed in the environment since it was imported is,
too; one that was changed here stays, unless ``overwrite``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.db.models import Q

from connections.imports import runs
from connections.imports.environment.naming import PROVIDER_DATA, is_of_client, url_variables
from connections.imports.environment.steps import Change, Step
from connections.imports.environment.variables import Group, Variable
from connections.imports.masking import masked
from connections.imports.runs import Imported
from connections.lookup import of_provider
from connections.models import (
    EnvironmentVariable,
    ExternalApiConnection,
    ExternalApiCredential,
    ImportOutcome,
    ImportRun,
)
from connections.services import create_connection, update_connection
from external_apis.adoption import Wishes, adopt
from external_apis.api_config import parse
from external_apis.data_keys import data_keys
from external_apis.errors import ApiManagerError, Conflict, InvalidInput
from external_apis.models import Environment, ExternalApi, Tenant
from external_apis.providers import live, update_external_api

__all__ = ["import_group"]

_CLIENT_IDS = ("client_id", "consumer_key")
# Of auth types that know more credentials than have to be there, those without which nothing can be called.
_NEEDED = {"bearer": ("access_token",), "oauth2": ("access_token",), "basic": ("username", "password")}
_GOT_LATER = frozenset({"access_token", "session_token"})


def import_group(group: Group, tenant: Tenant | None, run: ImportRun, *, overwrite: bool = False) -> Step:
    """Import a group's variables in a transaction of their own, and say what became of them.

    ``run`` may be a `runs.preview`: of it only the source counts, and what was imported from it before.
    What is refused stores nothing and is ``failed``; what is not enough to connect with is ``skipped``.
    """
    importing = _Importing(group, tenant, run, overwrite=overwrite)
    try:
        with transaction.atomic():
            importing.run()
    except ApiManagerError as error:
        return Step(group.preset.slug, "failed", reason=error.message)
    return importing.result


class _Importing:
    """One group's way; ``result`` tells of it step by step."""

    def __init__(self, group: Group, tenant: Tenant | None, run: ImportRun, *, overwrite: bool) -> None:
        self._group, self._tenant, self._overwrite = group, tenant, overwrite
        self._chosen = group.by_place()
        names = [variable.name for variable in group.variables]
        paths = ("connection", "external_api")
        known = EnvironmentVariable.objects.filter(name__in=names, tenant=tenant).select_related(*paths)
        self._known = {row.name: row for row in known}
        self._run = run
        self._url_variables = frozenset(group.preset.api_config.get("url_variables") or {})
        self._key = data_keys().writing(tenant.pk if tenant else None)
        self.result = Step(group.preset.slug)

    def run(self) -> None:
        client = {place: one.value for place, one in self._chosen.items() if is_of_client(place)}
        account = {place: one.value for place, one in self._chosen.items() if place not in client}
        api = self._find_provider(has_client=bool(client))
        existing = None if api is None or not account else self._find_connection(api)
        missing = self._missing(account) if account and existing is None else []
        if missing and not client:
            self.result.outcome = "skipped"
            self.result.reason = f"{' and '.join(missing)} is missing beside {', '.join(self._names(account))}"
            return
        if api is None:
            api = self._adopt(client)
        elif client:
            self._fill_provider(api, client)
        if existing is not None:
            self._fill_connection(existing, account)
        elif missing:
            self.result.reason = f"No connection: {' and '.join(missing)} is missing."
        elif account:
            self._connect(api, account)
        self._tell_of_aliases()

    def _find_provider(self, *, has_client: bool) -> ExternalApi | None:
        """The one that was imported to before, whatever has become of its slug and environment, else the usual one.

        The tenant's own goes first; a client registered for a tenant never goes into everybody's provider.
        """
        noted = self._noted_providers()
        usual = Q(slug=self._group.preset.slug, environment=Environment.PRODUCTION)
        belonging = Q(tenant=self._tenant) if has_client else Q(tenant=self._tenant) | Q(tenant=None)
        found = live().filter(belonging, usual | Q(pk__in=noted), is_sandbox=False, partner=None).order_by("pk")
        mine = self._tenant.pk if self._tenant else None
        return min(found, key=lambda row: (row.tenant_id != mine, row.pk not in noted), default=None)

    def _noted_providers(self) -> set[str]:
        rows = self._known.values()
        noted = {row.connection.external_api_id for row in rows if row.connection is not None}
        noted |= {row.external_api_id for row in rows if row.external_api_id is not None}
        before = runs.known(self._run, [self._group.preset.slug]).values()
        return noted | {row.object_id for row in before if row.object_type == ExternalApi._meta.model_name}

    def _adopt(self, client: Mapping[str, str]) -> ExternalApi:
        preset = self._group.preset
        block = preset.api_config.get("oauth2") or {}
        if "discovery_url" in block and "token_url" not in block:
            raise InvalidInput(f"Make the provider first: manage.py providers add {preset.slug}")
        by_name = {place.rpartition(".")[2]: value for place, value in client.items()}
        client_id = next((by_name[name] for name in _CLIENT_IDS if name in by_name), "")
        secret = next((value for name, value in by_name.items() if name not in _CLIENT_IDS), "")
        tenant_id = self._tenant.pk if self._tenant else None
        api = adopt(preset, Wishes(tenant_id=tenant_id, client_id=client_id, client_secret=secret))
        self._made("provider", api, None)
        for place in client:
            self._taken(place, "new", external_api=api)
        return api

    def _fill_provider(self, api: ExternalApi, client: Mapping[str, str]) -> None:
        patch: dict[str, dict[str, str]] = {}
        for place in client:
            block = place.rpartition(".")[0]
            if api.auth_type != block:
                raise InvalidInput(f"The provider's auth type is {api.auth_type}, which has no {place}.")
        for place, given in self._taken_of(client, api.secrets, external_api=api).items():
            block, _, name = place.rpartition(".")
            patch.setdefault(block, {})[name] = given
        if patch:
            changed = update_external_api(api, {"api_config": patch})
            self._updated(Imported(api.slug, changed, outcome=ImportOutcome.UPDATED))

    def _find_connection(self, api: ExternalApi) -> ExternalApiConnection | None:
        rows = of_provider(api).filter(tenant=self._tenant, partner=None, user=None)
        noted = {row.connection_id for row in self._known.values()}
        found = list(rows.select_related("credential", "external_api")[:50])
        if imported := [row for row in found if row.pk in noted]:
            return imported[0]
        default = [row for row in found if row.slug == "default"]
        if not default and len(found) > 1:
            raise Conflict(
                f"{api.slug} has several connections and none called default: the values are for one of them."
            )
        return next(iter(default or found), None)

    def _connect(self, api: ExternalApi, account: Mapping[str, str]) -> None:
        preset = self._group.preset
        credentials = {**preset.env_beside, **{name: value for name, value in account.items() if "." not in name}}
        connection = create_connection(
            api,
            {
                "connection_name": preset.name,
                "slug": "default",
                "credentials": credentials,
                "provider_data": _provider_data(account),
                "sales_channel_id": self._tenant.pk if self._tenant else None,
            },
        )
        self._made("connection", connection, connection.credential)
        for place in account:
            self._taken(place, "new", connection=connection)

    def _fill_connection(self, connection: ExternalApiConnection, account: Mapping[str, str]) -> None:
        stored: dict[str, Any] = dict(connection.credential.secrets) if hasattr(connection, "credential") else {}
        stored |= {f"{PROVIDER_DATA}.{name}": value for name, value in connection.provider_data.items()}
        taken = self._taken_of(account, stored, connection=connection)
        if not taken:
            return
        body: dict[str, Any] = {}
        if credentials := {name: value for name, value in taken.items() if "." not in name}:
            body["credentials"] = credentials
        if data := _provider_data(taken):
            body["provider_data"] = {**connection.provider_data, **data}
        changed = update_connection(connection, body)
        credential = getattr(changed, "credential", None)
        name = f"{self._group.preset.slug}/{changed.slug}"
        self._updated(Imported(name, changed, credential, outcome=ImportOutcome.UPDATED))

    def _taken_of(self, given: Mapping[str, str], stored: Mapping[str, Any], **where: Any) -> dict[str, str]:
        """Return what is to be stored of a client or an account, and note what becomes of its variables.

        Where a value stays that tells whose it is, all do: the values of two accounts are never mixed.
        """
        verdicts = {place: self._verdict(place, value, stored.get(place)) for place, value in given.items()}
        is_another = any(action == "kept" and self._tells_whose(place) for place, (action, _) in verdicts.items())
        taken = {}
        for place, (action, reason) in verdicts.items():
            if action in ("new", "changed") and not is_another:
                taken[place] = given[place]
            now = str(stored[place]) if action != "same" and place in stored else ""
            if action == "kept" or (action != "same" and is_another):
                self._tell(self._chosen[place], place, "kept", now, reason or "what is stored beside it stays")
            else:
                self._taken(place, action, now, **where)
        return taken

    def _verdict(self, place: str, given: str, stored: object) -> tuple[str, str]:
        """Tell what is to become of one value, and why where what is stored stays."""
        if stored == given:
            return "same", ""
        if not isinstance(stored, str):
            return "new", ""
        variable = self._chosen[place]
        last = self._known[variable.name].digest if variable.name in self._known else ""
        is_changed_there = bool(last) and self._key.fingerprint(given) != last
        is_changed_here = self._key.fingerprint(stored) != last
        if self._overwrite or (is_changed_there and not is_changed_here):
            return "changed", ""
        is_known = last and not is_changed_there
        return "kept", "was changed here since it was imported" if is_known else "another one is stored"

    def _tells_whose(self, place: str) -> bool:
        """Whether a value is of one account alone, as all are but a sender's address or number."""
        return not place.startswith(f"{PROVIDER_DATA}.") or _tail(place) in self._url_variables

    def _taken(self, place: str, action: str, stored: str = "", **where: Any) -> None:
        variable = self._chosen[place]
        self._tell(variable, place, action, stored)
        self._remember(variable, place, **where)

    def _remember(self, variable: Variable, place: str, **where: Any) -> None:
        """Note where a variable's value is; of one with several places the first."""
        if place != variable.places[0]:
            return
        wanted = {"connection": None, "external_api": None, **where, "place": place}
        wanted["digest"] = self._key.fingerprint(variable.value)
        row = self._known.get(variable.name)
        if row is None or any(getattr(row, field) != value for field, value in wanted.items()):
            self.result.notes.append(EnvironmentVariable(name=variable.name, tenant=self._tenant, **wanted))

    def _tell_of_aliases(self) -> None:
        """A second name for a place counts as imported, too, where it holds the same value."""
        for variable in self._group.variables:
            place = variable.places[0]
            first = self._chosen[place]
            if first is variable:
                continue
            if first.value == variable.value:
                self._tell(variable, place, "same", reason=f"as {first.name}")
                noted = next((row for row in self.result.notes if row.name == first.name), self._known.get(first.name))
                if noted is not None:
                    self._remember(variable, place, connection=noted.connection, external_api=noted.external_api)
            else:
                self._tell(variable, place, "unused", reason=f"{first.name} goes before it")

    def _tell(self, variable: Variable, place: str, action: str, stored: str = "", reason: str = "") -> None:
        shown = masked(stored) if stored else ""
        self.result.changes.append(Change(variable.name, place, action, masked(variable.value), shown, reason))

    def _made(self, what: str, row: Any, credential: ExternalApiCredential | None) -> None:
        self.result.outcome = "created"
        self.result.created.append(what)
        slug = self._group.preset.slug
        self.result.made.append(Imported(slug if credential is None else f"{slug}/{row.slug}", row, credential))

    def _updated(self, imported: Imported) -> None:
        if self.result.outcome == "recognised":
            self.result.outcome = "updated"
        self.result.made.append(imported)

    def _missing(self, account: Mapping[str, str]) -> list[str]:
        """Name what nothing can be connected without: a variable that the catalogue knows for it, or the place."""
        preset = self._group.preset
        config = parse(dict(preset.api_config))
        needed = _NEEDED.get(config.auth_type) or [name for name in config.own_credentials() if name not in _GOT_LATER]
        needed = [*needed, *(f"{PROVIDER_DATA}.{name}" for name in url_variables(preset))]
        there = {*account, *preset.env_beside}
        usual = {f"{PROVIDER_DATA}.{name}": f"{preset.slug}-{name}" for name in url_variables(preset)}
        names = {place: name.replace("-", "_").upper() for place, name in usual.items()}
        names |= {place: name for name, places in reversed(list(preset.env.items())) for place in places}
        return [names.get(place, place) for place in needed if place not in there]

    def _names(self, places: Mapping[str, str]) -> list[str]:
        return list(dict.fromkeys(self._chosen[place].name for place in places))


def _tail(place: str) -> str:
    return place.rpartition(".")[2]


def _provider_data(account: Mapping[str, str]) -> dict[str, str]:
    return {_tail(place): value for place, value in account.items() if place.startswith(f"{PROVIDER_DATA}.")}
