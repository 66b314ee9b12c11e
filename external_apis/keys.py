"""API keys (seed 003): create, list, retrieve, rename, verify, revoke, roll, delete."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from pydantic import BaseModel, ConfigDict

from external_apis import audit, key_use, request_context
from external_apis.errors import Conflict, InvalidInput, NotFound
from external_apis.ids import can_name
from external_apis.key_digests import digest, make_secret
from external_apis.key_format import make_token, public_part, redact
from external_apis.key_granting import OPERATOR, Granter
from external_apis.key_input import MAX_SECONDS, KeyInput
from external_apis.key_lookup import find_by_token
from external_apis.models import Account, ApiKey, KeyMode, Tenant
from external_apis.provider_input import Name, read_body
from external_apis.tenancy import EVERYTHING, Scope

__all__ = [
    "Created",
    "KeyChanges",
    "KeyStatus",
    "Verification",
    "admit",
    "create",
    "delete",
    "find",
    "of_status",
    "part_with",
    "rename",
    "revoke",
    "roll",
    "status_of",
    "verify",
    "visible",
    "withdraw",
]


@dataclass(frozen=True)
class Created:
    """A new key with its token, which nobody can look up afterwards. Its ``repr`` does not show the token."""

    key: ApiKey
    token: str

    def __repr__(self) -> str:
        return f"<Created {self.key.pk}>"


@dataclass(frozen=True)
class Verification:
    """What a token is worth now; ``problem`` says in words why it does not work."""

    key: ApiKey | None
    problem: str

    @property
    def is_valid(self) -> bool:
        return not self.problem


class KeyStatus(StrEnum):
    """``ending`` is a key whose revocation has been set for a later time: it still works."""

    ACTIVE = "active"
    ENDING = "ending"
    REVOKED = "revoked"
    EXPIRED = "expired"


class KeyChanges(BaseModel):
    """All that may be changed of a key."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    title: Name


def create(data: Mapping[str, Any], granter: Granter = OPERATOR) -> Created:
    """Make a key of what `KeyInput` describes; its token is returned this once. Raises as `admit`."""
    _, key = _admitted(data, granter)
    with transaction.atomic():
        return _store(key, "api_key.created")


def admit(data: Mapping[str, Any], granter: Granter) -> KeyInput:
    """Return what `create` would make a key of; a bound that is not given is the granter's own.

    Raises `InvalidInput` with field paths, `NotFound` for a tenant or an account that the granter does not see, and
    `Forbidden` for rights and bounds beyond the granter's.
    """
    return _admitted(data, granter)[0]


def visible(scope: Scope = EVERYTHING) -> QuerySet[ApiKey]:
    """Keys that somebody of this scope sees: of the own tenant and mode, newest first."""
    rows = scope.own(ApiKey.objects.all())
    if scope.is_sandbox is None:
        return rows
    return rows.filter(mode=KeyMode.TEST if scope.is_sandbox else KeyMode.LIVE)


def find(key_id: str, scope: Scope = EVERYTHING) -> ApiKey:
    """Return a key by its id. Raises `NotFound`."""
    return _only(visible(scope), key_id)


def rename(key: ApiKey, data: Mapping[str, Any]) -> ApiKey:
    """Give a key another title: of what it may do nothing can be changed."""
    body = read_body(KeyChanges, data)
    with transaction.atomic():
        key, before = _locked(key)
        key.title = body.title
        key.save(update_fields=["title", "updated_at"])
        audit.record("api_key.updated", key, audit.changed_fields(key, before))
    return key


def verify(token: str, scope: Scope = EVERYTHING) -> Verification:
    """Return the key of a token and whether it works now; a key outside of the scope is as good as none."""
    stored = find_by_token(token)
    key = visible(scope).filter(pk=stored.id).first() if stored is not None else None
    if stored is None or key is None:
        return Verification(None, "The API key is not valid.")
    return Verification(key, stored.problem(timezone.now()))


def revoke(key: ApiKey, in_seconds: int = 0) -> ApiKey:
    """End a key, and the JWTs made from it, now or in so many seconds; there is no way back, and none to a later time.

    Raises `Conflict` for one that is revoked already, `InvalidInput` for a time beyond a year.
    """
    with transaction.atomic():
        key, before = _locked(key)
        _end(key, _moment("in_seconds", in_seconds))
        audit.record("api_key.revoked", key, audit.changed_fields(key, before))
    return key


def roll(key: ApiKey, overlap_seconds: int = 0, granter: Granter = OPERATOR) -> Created:
    """Make another key with the same rights, and revoke this one after the overlap.

    Raises `Conflict` for a key that is revoked, about to be, or expired; `Forbidden` where it may do more than the
    granter, who would come by its rights.
    """
    with transaction.atomic():
        key, before = _locked(key)
        granter.require(key)
        if status_of(key, timezone.now()) != KeyStatus.ACTIVE:
            raise Conflict("The API key is revoked or expired, or will be: there is nothing to roll.")
        successor = copy(key)
        successor.pk = ApiKey().pk
        successor.rolled_from = key
        successor.created_at = timezone.now()
        successor.last_used_at = successor.last_used_from = None
        created = _store(successor, "api_key.created")
        _end(key, _moment("overlap_seconds", overlap_seconds))
        audit.record("api_key.rolled", key, {**audit.changed_fields(key, before), "rolled_to": [None, successor.pk]})
    return created


def delete(key: ApiKey) -> None:
    """Remove a revoked key. Raises `Conflict` as long as the revocation has not taken effect."""
    with transaction.atomic():
        key, _ = _locked(key)
        if key.revoked_at is None or key.revoked_at > timezone.now():
            raise Conflict("Only an API key whose revocation has taken effect can be deleted.")
        audit.record("api_key.deleted", key)
        key.delete()


def withdraw(key: ApiKey) -> None:
    """End a key that should not have been made, and those that it was rolled to.

    One that was never used goes at once, any other is revoked; without Valkey nobody knows, and it is revoked.
    """
    with transaction.atomic():
        key, before = _locked(key)
        for successor in ApiKey.objects.filter(rolled_from=key):
            withdraw(successor)
        if key.last_used_at is None and not key_use.may_be_noted(key.pk):
            audit.record("api_key.deleted", key)
            key.delete()
        elif status_of(key, timezone.now()) != KeyStatus.REVOKED:
            _end(key, timezone.now())
            audit.record("api_key.revoked", key, audit.changed_fields(key, before))


def part_with(owner: Account) -> None:
    """Revoke all keys of an account that goes, and keep them as nobody's. Call it in the transaction of the reason.

    Nobody takes them over: the one who goes still knows the tokens.
    """
    for key in ApiKey.objects.select_for_update().filter(owner=owner).order_by("pk"):
        before, now = copy(key), timezone.now()
        is_over = status_of(key, now) == KeyStatus.REVOKED
        if not is_over:
            _end(key, now)
        key.owner = None
        key.save(update_fields=["owner", "updated_at"])
        audit.record(f"api_key.{'updated' if is_over else 'revoked'}", key, audit.changed_fields(key, before))


def status_of(key: ApiKey, now: datetime) -> KeyStatus:
    """Return what has become of a key at this moment."""
    if key.revoked_at is not None and key.revoked_at <= now:
        return KeyStatus.REVOKED
    if key.expires_at is not None and key.expires_at <= now:
        return KeyStatus.EXPIRED
    return KeyStatus.ACTIVE if key.revoked_at is None else KeyStatus.ENDING


def of_status(rows: QuerySet[ApiKey], status: KeyStatus, now: datetime) -> QuerySet[ApiKey]:
    """Those of the rows that `status_of` says this of."""
    if status == KeyStatus.REVOKED:
        return rows.filter(revoked_at__lte=now)
    rows = rows.exclude(revoked_at__lte=now)
    if status == KeyStatus.EXPIRED:
        return rows.filter(expires_at__lte=now)
    return rows.exclude(expires_at__lte=now).filter(revoked_at__isnull=status == KeyStatus.ACTIVE)


# --- parts --------------------------------------------------------------------------------------------------------


def _admitted(data: Mapping[str, Any], granter: Granter) -> tuple[KeyInput, ApiKey]:
    body = read_body(KeyInput, data)
    body.tenant_id = body.tenant_id or granter.scope.tenant_id
    granter.bound(body)
    body.check(timezone.now())
    key = ApiKey(
        title=body.title,
        type=body.type,
        mode=body.mode,
        tenant=_tenant(body.tenant_id, granter.scope),
        owner=_owner(body.owner_id, body.tenant_id, granter.scope),
        service=body.service,
        scopes=body.scopes,
        allowed_networks=body.allowed_networks,
        rate_limit=body.rate_limit,
        expires_at=body.expires_at,
    )
    granter.require(key)
    return body, key


def _store(key: ApiKey, action: str) -> Created:
    token = make_token(key.type, key.mode)
    key.public_part, key.redacted = public_part(token), redact(token)
    key.digest = digest(token, make_secret())
    key.created_by = request_context.current().actor
    key.save(force_insert=True)
    audit.record(action, key, audit.changed_fields(key))
    return Created(key, token)


def _locked(key: ApiKey) -> tuple[ApiKey, ApiKey]:
    """Return the row as it is now, held until the transaction ends, and a copy of it."""
    row = _only(ApiKey.objects.select_for_update(), key.pk)
    return row, copy(row)


def _end(key: ApiKey, at: datetime) -> None:
    if key.revoked_at is not None and key.revoked_at <= at:
        raise Conflict(f"The API key is revoked already, as of {key.revoked_at.isoformat(timespec='seconds')}.")
    key.revoked_at, key.revoked_by = at, request_context.current().actor
    key.save(update_fields=["revoked_at", "revoked_by", "updated_at"])


def _moment(name: str, seconds: int) -> datetime:
    if not 0 <= seconds <= MAX_SECONDS:
        raise InvalidInput.of(name, f"is a number of seconds from 0 to {MAX_SECONDS}")
    return timezone.now() + timedelta(seconds=seconds)


def _only(rows: QuerySet[ApiKey], key_id: str) -> ApiKey:
    key = rows.filter(pk=key_id).first() if can_name(key_id) else None
    if key is None:
        raise NotFound(f"API key {key_id if can_name(key_id) else ascii(key_id)} not found")
    return key


def _tenant(tenant_id: str | None, scope: Scope) -> Tenant | None:
    if tenant_id is None:
        return None
    tenant = Tenant.objects.filter(pk=tenant_id).first() if scope.tenant_id in (None, tenant_id) else None
    if tenant is None:
        raise NotFound(f"Tenant {tenant_id} not found")
    return tenant


def _owner(account_id: str | None, tenant_id: str | None, scope: Scope) -> Account | None:
    if account_id is None:
        return None
    account = scope.own(Account.objects.all()).filter(pk=account_id).first()
    # Of another tenant than the key's it is as good as missing.
    if account is None or account.tenant_id not in (None, tenant_id):
        raise NotFound(f"User {account_id} not found")
    return account
