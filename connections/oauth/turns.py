"""A turn at one or many grants: load, ask the token endpoint, spool the answers, store.

One refresh and a sweep of hundreds go through the same steps; only the number differs. Between loading and storing no
database connection is held. From the moment an answer is in the spool it is lost by nothing but the disk: it stays
there until it is in the database, under its lease or as a late answer, or until something newer is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import structlog
from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError, transaction
from django.utils import timezone

from connections.models import ConnectionStatus, ExternalApiConnection, Grant, GrantEvent, GrantState
from connections.oauth import events, faults, spool_folder
from connections.oauth.commits import commit
from connections.oauth.late import consumed, try_to_adopt
from connections.oauth.leases import CALL_SECONDS, LEASE, Lease, hold
from connections.oauth.protocol import endpoint_of, renew
from connections.oauth.settlement import Facts, Finding, Settlement, settle
from connections.oauth.spool import Entry, own_spool
from connections.oauth.tokens import Tokens
from connections.opening import can_be_renewed, refresh_margin_seconds, rotates_refresh_tokens
from external_apis.api_config import ApiConfig
from external_apis.crypto import Key, Sealed
from external_apis.data_keys import key_of
from external_apis.database_connections import give_back_database_connections
from external_apis.errors import ApiManagerError, BadAnswer
from external_apis.models import ProviderStatus
from external_apis.providers import open_config

__all__ = ["Turn", "ask", "load", "run", "spool", "store", "take"]

log = structlog.get_logger(__name__)

Answer = Tokens | ApiManagerError | Finding


@dataclass(slots=True)
class Turn:
    """A leased grant, opened. ``answer`` is there at once where the provider need not be asked."""

    lease: Lease
    facts: Facts
    row: ExternalApiConnection | None = None
    config: ApiConfig | None = field(default=None, repr=False)
    key: Key | None = None
    endpoint: str = ""
    answer: Answer | None = field(default=None, repr=False)
    seconds: float = 0.0
    """How long the token endpoint took."""
    entry: Entry | None = field(default=None, repr=False)
    """The answer as it lies in the spool."""


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


def run(leases: Sequence[Lease], cause: str) -> list[Settlement]:
    """Give every lease its turn, one after the other; return how each ended, less those that were lost.

    Raises Django's database errors; answers that are in the spool by then are stored by `recovery`.
    """
    turns = load(leases, cause)
    give_back_database_connections()
    for turn in turns:
        if turn.answer is None:
            ask(turn)
    spool(turns, cause)
    return store(turns, cause)


def load(leases: Sequence[Lease], cause: str) -> list[Turn]:
    """Load connections, providers, credentials and tenants in one query, and open what a renewal needs."""
    rows = ExternalApiConnection.objects.select_related("external_api", "external_api__tenant", "credential", "tenant")
    found = rows.in_bulk([lease.connection_id for lease in leases])
    configs: dict[str, ApiConfig] = {}
    return [_prepare(lease, found.get(lease.connection_id), configs, cause) for lease in leases]


def ask(turn: Turn) -> Turn:
    """Ask the token endpoint; whatever it does, ``answer`` is set."""
    assert turn.row is not None  # noqa: S101 (tells the type checker, as below)
    assert turn.config is not None  # noqa: S101
    faults.reach("before_send")
    started = time.monotonic()
    try:
        turn.answer = renew(
            turn.config, turn.row.credential.secrets, turn.row.provider_data, deadline=started + CALL_SECONDS
        )
    except ApiManagerError as error:
        turn.answer = error
    except Exception as error:  # whatever it is, it may have come after the provider had renewed the grant
        log.exception("a renewal failed unexpectedly", connection_id=turn.lease.connection_id)
        turn.answer = BadAnswer(f"The renewal failed unexpectedly ({type(error).__name__}).", may_have_happened=True)
    turn.seconds = time.monotonic() - started
    faults.reach("after_answer")
    return turn


def spool(turns: Iterable[Turn], cause: str) -> None:
    """Have new tokens on the disk. Where that fails they go straight into the database, and the log says so."""
    fresh = [turn for turn in turns if isinstance(turn.answer, Tokens) and turn.entry is None]
    if not fresh:
        return
    for turn in fresh:
        turn.entry = _entry(turn, cause)
    try:
        own_spool().append([turn.entry for turn in fresh if turn.entry])
    except OSError as error:
        spool_folder.note_failure(error)
        return
    faults.reach("spooled")


def store(turns: Sequence[Turn], cause: str) -> list[Settlement]:
    """Store how turns ended; return it, less those whose lease was lost. Tokens of these are stored if still new.

    Raises Django's errors of a database that is away, and whatever else it has against a turn: then answers in the
    spool keep their leases, for another machine does not see them.
    """
    if not turns:
        return []
    now = timezone.now()
    settlements = [settle(turn.lease, turn.facts, turn.answer or Finding.NOT_SENT, now) for turn in turns]
    faults.reach("before_commit")
    try:
        held = commit(settlements, cause)
    except (OperationalError, InterfaceError):
        raise
    except Exception:
        for entry in [turn.entry for turn in turns if turn.entry]:
            hold(entry.connection_id, entry.fence)
        raise
    faults.reach("after_commit")
    spooled = own_spool()
    spooled.settle([turn.entry for turn in turns if turn.entry and turn.lease.connection_id in held])
    _adopt([turn.entry for turn in turns if turn.entry and turn.lease.connection_id not in held], cause)
    _adopt(spooled.overdue(LEASE.total_seconds()), "recovery")
    faults.reach("settled")
    give_back_database_connections()
    return [item for item in settlements if item.lease.connection_id in held]


def _adopt(entries: Iterable[Entry], cause: str) -> None:
    for entry in entries:
        try:
            verdict = try_to_adopt(entry, cause)
        except DatabaseError as error:
            log.warning(
                "a late answer stays in the spool", connection_id=entry.connection_id, error=type(error).__name__
            )
            continue
        if verdict != "kept":
            own_spool().settle([entry])


def _prepare(lease: Lease, row: ExternalApiConnection | None, configs: dict[str, ApiConfig], cause: str) -> Turn:
    """Open one turn. What is wrong with a row, whatever it is, is the answer of its own turn alone."""
    credential = getattr(row, "credential", None)
    if row is None or credential is None or row.is_deleted or row.external_api.is_deleted:
        return Turn(lease, Facts(None, ""), row, answer=Finding.GONE)
    turn = Turn(lease, Facts(credential.expires_at, row.status), row)
    try:
        _open(turn, row, configs, cause)
    except ApiManagerError as error:
        turn.answer = error
    except Exception as error:
        log.exception("a renewal could not be prepared", connection_id=row.pk)
        turn.answer = ApiManagerError(f"The renewal could not be prepared ({type(error).__name__}).")
    return turn


def _open(turn: Turn, row: ExternalApiConnection, configs: dict[str, ApiConfig], cause: str) -> None:
    api, credential = row.external_api, row.credential
    turn.facts = replace(turn.facts, margin_seconds=refresh_margin_seconds(api), rotates=rotates_refresh_tokens(api))
    tenants = [tenant for tenant in (row.tenant, api.tenant) if tenant is not None]
    if row.status == ConnectionStatus.REVOKED:
        turn.answer = Finding.GONE
    elif turn.lease.state == GrantState.NEEDS_REAUTHORIZATION and cause != "manual":
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
        turn.endpoint = endpoint_of(turn.config, row.provider_data)


def _entry(turn: Turn, cause: str) -> Entry:
    assert turn.key is not None  # noqa: S101
    assert isinstance(turn.answer, Tokens)  # noqa: S101
    content = {"tokens": turn.answer.to_json(), "consumed": consumed(turn.facts.sent_refresh_token)}
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
