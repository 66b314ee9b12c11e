"""Makes providers of the old platforms, all in one transaction: there are few of them, and every account needs one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from django.db import transaction

from connections.imports import refresh_tokens, runs
from connections.imports.runs import Imported
from connections.imports.social_platforms.accounts import holds_tokens
from connections.imports.social_platforms.old_database import PLATFORMS
from connections.imports.social_platforms.old_rows import UNREADABLE, OldRow, named, read_row
from connections.imports.social_platforms.owners import Owner
from connections.imports.social_platforms.platforms import Definition, define
from connections.imports.social_platforms.refusals import reason_of, refused
from connections.imports.social_platforms.sources import Read
from connections.imports.social_platforms.work import Work
from connections.models import ImportedRow
from external_apis import api_config
from external_apis.api_config import ApiConfig
from external_apis.errors import ApiManagerError, Conflict, InvalidInput
from external_apis.models import ExternalApi
from external_apis.providers import create_external_api, open_config

__all__ = ["DELETED", "GONE_HERE", "TWICE", "Platform", "import_platforms"]

DELETED = "deleted in the old system"
TWICE = "of an id that stood there before"
GONE_HERE = "imported before and deleted here since"

_API = ExternalApi._meta.model_name or ""
_CLIENT_PATHS = ("oauth2.client_id", "oauth1.consumer_key")


@dataclass(frozen=True)
class Platform:
    """What an old platform's accounts are attached to. ``api`` is None in a dry run of one to be made; ``refusal`` says
    why none of its accounts can be imported."""

    api: ExternalApi | None = None
    config: ApiConfig | None = field(default=None, repr=False)
    refusal: str = ""
    own_account: Read | None = field(default=None, repr=False)
    """The platform's own row, where it carries an account's tokens itself."""


def import_platforms(reads: Iterable[Read], work: Work) -> dict[str, Platform]:
    """Make what is not here yet; return all platforms by their old ids.

    A run that is not stored (a dry run's) makes nothing. Raises `InvalidInput` where the source cannot be read.
    """
    found: dict[str, Platform] = {}
    run, tally = work.run, _Tally(work)
    readable = list(_readable(reads, work, tally))
    rows = [row for _, row in readable]
    work.owners.look_up(rows)
    known = {key: row for (key, kind), row in runs.known(run, [row.source_key for row in rows]).items() if kind == _API}
    living = ExternalApi.objects.filter(deleted_at=None).in_bulk([row.object_id for row in known.values()])
    making = _Making(work, known, living)
    with transaction.atomic():
        if not work.is_dry:
            refresh_tokens.let_nobody_else_store()
        for read, row in readable:
            if row.id in found:
                tally.count("skipped", TWICE)
                continue
            platform = _import_one(row, making, work, tally)
            found[row.id] = replace(platform, own_account=read if platform.config and holds_tokens(row) else None)
        if not work.is_dry:
            counts = {"created": len(making.made)} if tally.is_over else _of_run(work.summary.platforms)
            work.report.flush()
            runs.record(run, making.made, counts, {**run.position, "platforms": True})
    return found


class _Tally:
    """Counts platforms; those of a run that is gone on with behind them were counted in its row before."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self.is_over = bool(work.run.position.get("platforms"))

    def count(self, what: str, reason: str = "") -> None:
        summary = self._work.summary
        summary.platforms[what] += 1
        if reason:
            summary.reasons[f"platforms: {reason}"] += 1

    def fail(self, row_id: str, error: ApiManagerError, **facts: str) -> None:
        self.count("failed", reason_of(error))
        self._work.report.add(PLATFORMS, row_id, reason_of(error), error.message, **facts)


class _Making:
    """The providers that this import has made or would make, by what makes one of them unique."""

    def __init__(self, work: Work, known: Mapping[str, ImportedRow], living: Mapping[str, ExternalApi]) -> None:
        self.is_dry = work.is_dry
        self.known, self.living = known, living
        self.made: list[Imported] = []
        self._planned: dict[tuple[str, str | None, str | None], ApiConfig] = {}

    def find_or_make(
        self, row: OldRow, definition: Definition, owner: Owner
    ) -> tuple[ExternalApi | None, ApiConfig, bool]:
        """Return the provider, its configuration, and whether it is new.

        One that is here already under the slug is taken, unless it belongs to another client (app): tokens of one
        client are not renewed by another. Then the slug gets a number.
        """
        config = api_config.parse(definition.body["api_config"])
        number, slug = 1, definition.slug
        while True:
            place = (slug, owner.tenant.pk if owner.tenant else None, owner.partner.pk if owner.partner else None)
            planned = self._planned.get(place)
            if planned is not None and _is_same_client(planned, config):
                return None, planned, False
            api = None if planned is not None else _stored(slug, owner)
            if api is not None and _is_same_client(opened := open_config(api).api_config, config):
                return api, opened, False
            if api is None and planned is None:
                return self._make(row, {**definition.body, "slug": slug}, owner, config, place)
            number += 1
            slug = f"{definition.slug}-{number}"

    def _make(
        self, row: OldRow, body: dict[str, Any], owner: Owner, config: ApiConfig, place: Any
    ) -> tuple[ExternalApi | None, ApiConfig, bool]:
        if self.is_dry:
            self._planned[place] = config
            return None, config, True
        belonging = {
            "sales_channel_id": owner.tenant and owner.tenant.pk,
            "partner_id": owner.partner and owner.partner.pk,
        }
        api = create_external_api({**body, **{name: pk for name, pk in belonging.items() if pk}})
        self.made.append(Imported(row.source_key, api, source_digest=row.version))
        return api, config, True


def _import_one(row: OldRow, making: _Making, work: Work, tally: _Tally) -> Platform:
    if row.is_deleted:
        tally.count("skipped", DELETED)
        return Platform(refusal=DELETED)
    if (before := making.known.get(row.source_key)) is not None:
        api = making.living.get(before.object_id)
        if api is None:
            tally.count("skipped", GONE_HERE)
            return Platform(refusal=GONE_HERE)
        tally.count("recognised")
        return Platform(api, open_config(api).api_config)
    name = row.text("name") or row.id
    try:
        definition = define(row)
        with transaction.atomic():
            api, config, is_new = making.find_or_make(row, definition, work.owners.of(row))
    except (InvalidInput, Conflict) as error:
        tally.fail(row.id, error, name=name)
        return Platform(refusal=error.message)
    tally.count("migrated" if is_new else "recognised")
    for note in definition.notes:
        work.summary.remark(name, note)
    if not is_new:
        slug = definition.slug if api is None else f"{api.slug} ({api.pk})"
        work.summary.remark(name, f"{slug} is there already and was taken")
    return Platform(api, config)


def _readable(reads: Iterable[Read], work: Work, tally: _Tally) -> Iterator[tuple[Read, OldRow]]:
    for read in reads:
        try:
            if read.problem:
                raise refused(UNREADABLE, read.problem)
            row = read_row(PLATFORMS, read.row, work.keys)
        except ApiManagerError as error:
            tally.fail(named(read.row, read.position), error)
        else:
            yield read, row


def _stored(slug: str, owner: Owner) -> ExternalApi | None:
    return ExternalApi.objects.filter(
        deleted_at=None,
        slug=slug,
        environment="production",
        is_sandbox=False,
        tenant=owner.tenant,
        partner=owner.partner,
    ).first()


def _is_same_client(one: ApiConfig, other: ApiConfig) -> bool:
    """Whether both may be of one client: none of them, or only one, names it, or both name the same."""
    clients = [api_config.secret_values(config) for config in (one, other)]
    named = [{values[path] for path in _CLIENT_PATHS if path in values} for values in clients]
    return not all(named) or named[0] == named[1]


def _of_run(counted: Mapping[str, int]) -> dict[str, int]:
    return {"created" if name == "migrated" else name: count for name, count in counted.items()}
