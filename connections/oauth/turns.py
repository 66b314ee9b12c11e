"""A turn at one or many grants: load, ask the token endpoint, spool the answers, commit.

One refresh and a sweep of hundreds go through the same steps; only the number differs. Between loading and committing
no database connection is held.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, wait
from dataclasses import dataclass, field, replace
from hashlib import sha256

import structlog
from django.db import transaction
from django.utils import timezone

from connections.client import give_back_database_connections
from connections.models import ConnectionStatus, ExternalApiConnection, Grant, GrantEvent, GrantState
from connections.oauth import events, faults, spool_folder
from connections.oauth.commits import commit
from connections.oauth.leases import CALL_SECONDS, LEASE, Lease
from connections.oauth.protocol import renew
from connections.oauth.settlement import Facts, Finding, Settlement, settle
from connections.oauth.spool import Entry, own_spool
from connections.oauth.tokens import Tokens
from connections.opening import can_be_renewed, refresh_margin_seconds
from external_apis.api_config import ApiConfig
from external_apis.crypto import Key, Sealed
from external_apis.data_keys import key_of
from external_apis.errors import ApiManagerError, BadAnswer, VaultError
from external_apis.models import ProviderStatus
from external_apis.providers import open_config

__all__ = ["Turn", "consumed", "run", "take"]

log = structlog.get_logger(__name__)

_COMMIT_SIZE, _COMMIT_SECONDS = 200, 1.0

Answer = Tokens | ApiManagerError | Finding


@dataclass(slots=True)
class Turn:
    """A leased grant, opened. ``answer`` is there at once where the provider need not be asked."""

    lease: Lease
    facts: Facts
    row: ExternalApiConnection | None = None
    config: ApiConfig | None = field(default=None, repr=False)
    key: Key | None = None
    answer: Answer | None = field(default=None, repr=False)


def take(claim: Callable[[], list[Lease]], cause: str) -> list[Lease]:
    """Claim leases, and write down in the same transaction which grants are in doubt by that."""
    with transaction.atomic():
        leases = claim()
        doubtful = [lease for lease in leases if lease.is_newly_doubtful]
        events.store([_doubt(lease, cause) for lease in doubtful])
        if doubtful:
            Grant.objects.filter(pk__in=[lease.connection_id for lease in doubtful]).update(incident="in_doubt")
    faults.reach("claimed")
    names = {lease.connection_id for lease in doubtful}
    return [replace(lease, incident="in_doubt") if lease.connection_id in names else lease for lease in leases]


def run(leases: Sequence[Lease], cause: str, executor: Executor | None = None) -> list[Settlement]:
    """Give every lease its turn, several at once with an executor; return how each ended, less those that were lost.

    Raises Django's database errors; answers that are in the spool by then are stored by `recovery`.
    """
    started = time.monotonic()
    turns = load(leases)
    give_back_database_connections()
    ended = _commit([turn for turn in turns if turn.answer is not None], [], cause)
    to_ask = [turn for turn in turns if turn.answer is None]
    if executor is None:
        for turn in to_ask:
            turn.answer = _ask(turn, started)
            ended += _commit([turn], _spool([turn], cause), cause)
        return ended
    waiting = {executor.submit(_answer, turn, started) for turn in to_ask}
    answered: list[Turn] = []
    entries: list[Entry] = []
    committed_at = started
    while waiting or answered:
        done, waiting = wait(waiting, timeout=_COMMIT_SECONDS, return_when=FIRST_COMPLETED)
        fresh = [future.result() for future in done]
        entries += _spool(fresh, cause)
        answered += fresh
        is_time = time.monotonic() - committed_at >= _COMMIT_SECONDS
        if not waiting or len(answered) >= _COMMIT_SIZE or (answered and is_time):
            ended += _commit(answered, entries, cause)
            answered, entries, committed_at = [], [], time.monotonic()
    return ended


def load(leases: Sequence[Lease]) -> list[Turn]:
    """Load connections, providers, credentials and tenants in one query, and open what a renewal needs."""
    rows = ExternalApiConnection.objects.select_related("external_api", "external_api__tenant", "credential", "tenant")
    found = rows.in_bulk([lease.connection_id for lease in leases])
    configs: dict[str, ApiConfig] = {}
    return [_open(lease, found.get(lease.connection_id), configs) for lease in leases]


def consumed(refresh_token: str | None) -> str:
    """Name a refresh token that was sent, without telling it: what came back counts while that one is still stored."""
    return sha256((refresh_token or "").encode()).hexdigest()


def _open(lease: Lease, row: ExternalApiConnection | None, configs: dict[str, ApiConfig]) -> Turn:
    credential = getattr(row, "credential", None)
    if row is None or credential is None or row.is_deleted or row.external_api.is_deleted:
        return Turn(lease, Facts(None, ""), row, answer=Finding.GONE)
    api, expires_at = row.external_api, credential.expires_at
    margin_seconds = refresh_margin_seconds(api)
    turn = Turn(lease, Facts(expires_at, row.status, margin_seconds), row)
    tenants = [tenant for tenant in (row.tenant, api.tenant) if tenant is not None]
    try:
        if row.status == ConnectionStatus.REVOKED:
            turn.answer = Finding.GONE
        elif lease.state == GrantState.NEEDS_REAUTHORIZATION:
            turn.answer = Finding.GIVEN_UP
        elif not can_be_renewed(row):
            turn.answer = Finding.NOTHING_TO_RENEW
        elif api.status == ProviderStatus.INACTIVE or not all(tenant.is_active for tenant in tenants):
            turn.answer = Finding.INACTIVE
        else:
            turn.facts = replace(turn.facts, sent_refresh_token=credential.secrets.get("refresh_token"))
            turn.key = key_of(Sealed(credential.__dict__["secrets"]))
            turn.config = configs.get(api.pk)
            if turn.config is None:
                turn.config = configs[api.pk] = open_config(api).api_config
    except VaultError as error:
        turn.answer = error
    return turn


def _answer(turn: Turn, started: float) -> Turn:
    turn.answer = _ask(turn, started)
    return turn


def _ask(turn: Turn, started: float) -> Answer:
    assert turn.row is not None  # noqa: S101 (tells the type checker, as below)
    assert turn.config is not None  # noqa: S101
    now = time.monotonic()
    if now - started > LEASE.total_seconds() / 2:
        # It waited for a thread, and an answer might come when somebody else has the lease.
        return Finding.NOT_SENT
    faults.reach("before_send")
    try:
        return renew(
            turn.config,
            turn.row.credential.secrets,
            turn.row.provider_data,
            deadline=now + CALL_SECONDS,
        )
    except ApiManagerError as error:
        return error
    except Exception as error:  # whatever it is, it may have come after the provider had renewed the grant
        log.exception("a renewal failed unexpectedly", connection_id=turn.lease.connection_id)
        return BadAnswer(f"The renewal failed unexpectedly ({type(error).__name__}).", may_have_happened=True)
    finally:
        faults.reach("after_answer")


def _commit(turns: Sequence[Turn], entries: Sequence[Entry], cause: str) -> list[Settlement]:
    if not turns:
        return []
    now = timezone.now()
    settlements = [settle(turn.lease, turn.facts, turn.answer or Finding.NOT_SENT, now) for turn in turns]
    faults.reach("before_commit")
    held = commit(settlements, cause)
    faults.reach("after_commit")
    own_spool().settle(entries)
    faults.reach("settled")
    give_back_database_connections()
    return [item for item in settlements if item.lease.connection_id in held]


def _spool(turns: Iterable[Turn], cause: str) -> list[Entry]:
    """Have new tokens on the disk. Where that fails they go straight into the database, and the log says so."""
    entries = [_entry(turn, turn.answer, cause) for turn in turns if isinstance(turn.answer, Tokens)]
    if not entries:
        return []
    try:
        own_spool().append(entries)
    except OSError as error:
        spool_folder.note_failure(error)
        return []
    faults.reach("spooled")
    return entries


def _entry(turn: Turn, tokens: Tokens, cause: str) -> Entry:
    assert turn.key is not None  # noqa: S101
    content = {"tokens": tokens.to_json(), "consumed": consumed(turn.facts.sent_refresh_token)}
    return Entry.seal(turn.lease.connection_id, turn.lease.fence, cause, json.dumps(content).encode(), turn.key)


def _doubt(lease: Lease, cause: str) -> GrantEvent:
    return events.build(
        lease.connection_id,
        lease.tenant_id,
        "in_doubt",
        cause=cause,
        outcome="pending",
        message="A renewal was broken off and may have happened. It is tried once more with the old token.",
        mail_due=lease.incident != "in_doubt",
    )
