"""'Test connection': one real call that tells whether the credentials work."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from django.db import transaction

from connections.client import ApiClient, Target
from connections.models import ExternalApiConnection
from connections.oauth.refresh import HOPELESS, ensure_fresh
from connections.opening import check_usable, open_connection, target_of
from external_apis import audit
from external_apis.call_config import RetryConfig
from external_apis.errors import ApiManagerError, UpstreamError

# Somebody waits for the answer in front of a page.
_TIMEOUT_MS = 15_000


@dataclass(frozen=True)
class TestOutcome:
    """What 'Test connection' found. ``status`` is the provider's HTTP status, None where no answer came."""

    __test__ = False

    is_ok: bool
    message: str
    status: int | None
    duration_ms: int


def test_connection(row: ExternalApiConnection) -> TestOutcome:
    """Really call the provider: its ``test_path``, or the base URL where none is configured. Raises nothing of ours.

    The row keeps the message of a failure (``error_message``) until a later test succeeds; that its owner has to
    reconnect stands there until that is done. Its status stays as it is: one failed call does not make a connection
    unusable.
    """
    outcome = _call(row)
    message = None if outcome.is_ok else outcome.message
    with transaction.atomic():
        # One column, past `save`: it is an observation, and not somebody's change with an entry in the history.
        rows = ExternalApiConnection.objects.filter(pk=row.pk).exclude(grant__state__in=HOPELESS)
        if rows.update(error_message=message):
            row.error_message = message
        else:
            row.refresh_from_db(fields=["error_message"])
        audit.record("connection.tested", row, {"ok": outcome.is_ok, "status": outcome.status})
    return outcome


test_connection.__test__ = False  # type: ignore[attr-defined]


def probe(target: Target) -> TestOutcome:
    """Really call the provider with credentials that need not be stored. Raises nothing of ours, changes nothing."""
    started = time.monotonic()

    def outcome(is_ok: bool, message: str, status: int | None) -> TestOutcome:
        duration_ms = round((time.monotonic() - started) * 1000)
        return TestOutcome(is_ok=is_ok, message=message, status=status, duration_ms=duration_ms)

    config = target.config.model_copy(update={"retry_config": RetryConfig(max_retries=0)})
    path = config.test_path
    try:
        response = ApiClient(replace(target, config=config)).get(path or "", timeout_ms=_TIMEOUT_MS)
    except UpstreamError as error:
        # Without a test path the base URL may well be a 404: the provider answered and did not refuse us.
        if path is None and error.upstream_status not in (401, 403, 407) and error.upstream_status < 500:
            message = f"The provider answered {error.upstream_status} at its base URL; set test_path to check more."
            return outcome(True, message, error.upstream_status)
        return outcome(False, error.message, error.upstream_status)
    except ApiManagerError as error:
        return outcome(False, error.message, None)
    return outcome(True, f"The provider answered {response.status_code}.", response.status_code)


def _call(row: ExternalApiConnection) -> TestOutcome:
    try:
        check_usable(row)
        target = target_of(open_connection(ensure_fresh(row)))
    except ApiManagerError as error:
        return TestOutcome(is_ok=False, message=error.message, status=None, duration_ms=0)
    return probe(target)
