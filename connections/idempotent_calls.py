"""One call for one idempotency key, whatever number of processes is asked for it and whichever of them dies.

The row is the truth. Whoever inserts it makes the call; everybody else gets the stored answer, or is told that the call
is under way or in doubt. A call is in doubt when its process was killed or lost the provider's answer: the provider may
have done its work, so a POST or PATCH is never sent again under that key. What the provider itself takes for the same
call, because of its method or because the provider knows idempotency keys, is sent again by whoever asks next.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac

from connections.models import ExternalApiConnection, IdempotentCall
from external_apis.errors import AnswerNotKept, CallInDoubt, CallInProgress, Conflict, IdempotencyKeyReused, VaultError
from external_apis.fields import SecretsField
from external_apis.ids import new_id

__all__ = ["MAX_KEPT_BYTES", "Claim", "KeptAnswer", "claim", "digest_request", "purge"]

MAX_KEPT_BYTES = 1024 * 1024
"""The longest body of an answer that is kept."""

_REMEMBERED = timedelta(hours=24)
_BATCH = 1_000
_TRIES = 3


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """The answer that the first call got."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to make the call, as long as nobody else has taken it over."""

    row: IdempotentCall

    def store(self, answer: KeptAnswer) -> None:
        """Keep the answer, sealed, for everybody who comes with the same key within 24 hours of the first call."""
        row, field = self.row, _answer_field()
        head = json.dumps({"status": answer.status, "headers": dict(answer.headers)})
        with transaction.atomic():
            field.hold_writing_key(row)
            sealed = field.seal(row, {"head": head, "body": base64.b64encode(answer.body).decode()})
            self._update(answer=sealed, finished_at=timezone.now())

    def store_nothing(self) -> None:
        """Note that the call was made and answered at a length that is not kept."""
        self._update(finished_at=timezone.now(), is_kept=False)

    def doubt(self) -> None:
        """Note that nobody knows what the call did."""
        self._update(leased_until=timezone.now())

    def extend(self, seconds: float) -> None:
        """Have so much time from now on."""
        self._update(leased_until=timezone.now() + timedelta(seconds=seconds))

    def release(self) -> None:
        """Forget a call that has certainly done nothing, so that it may be made again."""
        IdempotentCall.objects.filter(pk=self.row.pk, fence=self.row.fence).delete()

    def _update(self, **columns: object) -> None:
        IdempotentCall.objects.filter(pk=self.row.pk, fence=self.row.fence).update(**columns)


def claim(
    connection: ExternalApiConnection,
    caller: str,
    key: str,
    request_digest: str,
    *,
    lease_seconds: float,
    is_repeatable: bool,
) -> Claim | KeptAnswer:
    """Return the right to make the call, or the answer that it had.

    ``is_repeatable`` tells whether the provider takes a repetition for the same call, so that one in doubt may be made
    again. Raises `IdempotencyKeyReused` for another request, `CallInProgress`, `CallInDoubt` and `AnswerNotKept`.
    """
    for _ in range(_TRIES):
        now = timezone.now()
        mine = IdempotentCall(
            connection_id=connection.pk,
            tenant_id=connection.tenant_id,
            caller=caller,
            key_digest=hashlib.sha256(key.encode()).hexdigest(),
            request_digest=request_digest,
            fence=new_id("fence"),
            leased_until=now + timedelta(seconds=lease_seconds),
            expires_at=now + _REMEMBERED,
        )
        IdempotentCall.objects.bulk_create([mine], ignore_conflicts=True)
        row = IdempotentCall.objects.filter(
            connection_id=connection.pk, caller=caller, key_digest=mine.key_digest
        ).first()
        if row is not None and row.fence == mine.fence:
            return Claim(row)
        if row is not None and row.expires_at > now:
            return _judge(row, mine, is_repeatable)
        if row is not None:
            Claim(row).release()
    raise Conflict("The idempotency key is in use by too many callers at once.")


def digest_request(*parts: bytes) -> str:
    """Return what tells one request from another; keyed, because a body may be guessed from a plain digest."""
    framed = b"".join(b"%d:%b" % (len(part), part) for part in parts)
    return salted_hmac("connections.idempotent_calls", framed, algorithm="sha256").hexdigest()


def purge() -> int:
    """Delete the calls that are older than 24 hours, in short transactions; returns how many."""
    count = 0
    while True:
        ids = list(IdempotentCall.objects.filter(expires_at__lte=timezone.now()).values_list("pk", flat=True)[:_BATCH])
        if not ids:
            return count
        count += IdempotentCall.objects.filter(pk__in=ids).delete()[0]


def _judge(row: IdempotentCall, mine: IdempotentCall, is_repeatable: bool) -> Claim | KeptAnswer:
    if row.request_digest != mine.request_digest:
        raise IdempotencyKeyReused("The idempotency key came with another request before.")
    if row.finished_at is not None:
        return _read(row)
    if row.leased_until > timezone.now():
        raise CallInProgress("A call with this idempotency key is under way.")
    if not is_repeatable:
        raise CallInDoubt(
            "A call with this idempotency key was interrupted, and the provider may have done its work. Look there, "
            "and use another key to make the call again."
        )
    taken = IdempotentCall.objects.filter(pk=row.pk, fence=row.fence).update(
        fence=mine.fence, leased_until=mine.leased_until
    )
    if not taken:
        raise CallInProgress("A call with this idempotency key is under way.")
    row.fence = mine.fence
    return Claim(row)


def _read(row: IdempotentCall) -> KeptAnswer:
    if row.is_kept:
        try:
            head = json.loads(row.answer["head"])
            return KeptAnswer(head["status"], head["headers"], base64.b64decode(row.answer["body"]))
        except VaultError:
            pass  # the tenant's key is gone, and the answer with it
    raise AnswerNotKept("The call with this idempotency key was made; its answer was not kept.")


def _answer_field() -> SecretsField:
    field = IdempotentCall._meta.get_field("answer")
    assert isinstance(field, SecretsField)  # noqa: S101 (tells the type checker)
    return field
