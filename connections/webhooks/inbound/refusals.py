"""Tells the operator of refused deliveries, apart from the request: the sender waits for nothing and learns nothing.

Refusals of one provider and one kind within a second are one row's count and one line in the log. One of them is kept
for that second and looked at; no body is ever stored.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from django.db import connection

from connections.coalescer import Coalescer
from connections.models import WebhookRefusal
from connections.webhooks.inbound.deliveries import Delivery
from connections.webhooks.inbound.diagnosis import Diagnosis, diagnose
from connections.webhooks.inbound.receivers import Receiver
from connections.webhooks.inbound.verdicts import Verdict
from external_apis.ids import new_id
from external_apis.models import ExternalApi

__all__ = ["flush", "note"]

log = structlog.get_logger(__name__)

_PAUSE_SECONDS = 1.0
_MOST_KINDS, _MOST_SAMPLES = 1_000, 10
_ROUND_SECONDS = 0.1
"""So much processor time is spent on finding causes before the next pause; the rest is counted without."""
_UNKNOWN = Receiver("(unknown)", problem="There is no such provider.")


@dataclass(slots=True)
class _Noted:
    """``delivery`` is the first one of its kind, where there was room to keep it."""

    receiver: Receiver
    delivery: Delivery | None
    address: str | None
    at: float
    request_id: str
    count: int = 1


_Batch = dict[tuple[str, Verdict], _Noted]


def note(receiver: Receiver, delivery: Delivery, verdict: Verdict, *, address: str | None, request_id: str) -> None:
    """Have a refused delivery reported soon."""
    known = receiver if receiver.api_id else _UNKNOWN
    noted = _Noted(known, delivery, address, time.time(), request_id)
    _reporter.put(lambda batch: _add(batch, verdict, noted))


def flush(seconds: float) -> bool:
    """Wait until what was noted is reported; False when that took longer."""
    return _reporter.flush(seconds)


def _add(batch: _Batch, verdict: Verdict, noted: _Noted) -> None:
    key = (noted.receiver.api_id, verdict)
    if key in batch:
        batch[key].count += 1
    elif len(batch) < _MOST_KINDS:
        if sum(item.delivery is not None for item in batch.values()) >= _MOST_SAMPLES:
            noted.delivery = None
        batch[key] = noted


def _report_all(batch: _Batch) -> None:
    try:
        until = time.thread_time() + _ROUND_SECONDS
        for (_, verdict), item in batch.items():
            _report(item, verdict, until)
    finally:
        connection.close()


def _report(noted: _Noted, verdict: Verdict, until: float) -> None:
    try:
        found = diagnose(noted.receiver, noted.delivery, verdict, noted.at, until)
        if noted.receiver.api_id:
            _count(noted, found)
    except Exception as error:  # whatever it is: the next ones are to be reported
        log.warning("webhook.refused", count=noted.count, problem=f"not looked into ({type(error).__name__})")
        return
    log.warning(
        "webhook.refused",
        provider=noted.receiver.slug,
        external_api_id=noted.receiver.api_id,
        reason=found.reason,
        explanation=found.explanation,
        count=noted.count,
        address=noted.address,
        request_id=noted.request_id,
    )


def _count(noted: _Noted, found: Diagnosis) -> None:
    table = connection.ops.quote_name(WebhookRefusal._meta.db_table)
    # A provider that was deleted meanwhile has nothing to be told of.
    statement = f"""
INSERT INTO {table} AS row
    (id, external_api_id, tenant_id, reason, explanation, address, count, first_at, last_at)
SELECT %(id)s, api.id, api.tenant_id, %(reason)s, %(explanation)s, %(address)s, %(count)s, %(at)s, %(at)s
FROM {ExternalApi._meta.db_table} AS api WHERE api.id = %(api)s
ON CONFLICT (external_api_id, reason) DO UPDATE SET
    explanation = EXCLUDED.explanation, address = EXCLUDED.address, last_at = EXCLUDED.last_at,
    count = row.count + EXCLUDED.count
"""  # noqa: S608 (our own table's name)
    values = {
        "id": new_id("whr"),
        "api": noted.receiver.api_id,
        "reason": found.reason,
        "explanation": found.explanation,
        "address": noted.address,
        "count": noted.count,
        "at": datetime.fromtimestamp(noted.at, UTC),
    }
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


_reporter = Coalescer("webhook-refusals", _report_all, pause_seconds=_PAUSE_SECONDS)
