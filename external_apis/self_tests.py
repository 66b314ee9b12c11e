"""What the product can test of itself while it runs: each test does a piece of real work in some milliseconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import structlog
from django.db import connection, transaction

from external_apis import audit, heartbeats, rate_limit, tokens, valkey
from external_apis.errors import ApiManagerError, InvalidInput
from external_apis.health import check_services
from external_apis.key_holder import KeyHolder
from external_apis.key_registry import verify_keys
from external_apis.keyring import keyring
from external_apis.providers import live, open_config

__all__ = ["SELF_TESTS", "Result", "run"]

log = structlog.get_logger(__name__)


class _Failed(Exception):
    """Its message says what is wrong, without a secret."""


@dataclass(frozen=True)
class SelfTest:
    """``try_out`` raises when something is wrong."""

    name: str
    tells: str
    try_out: Callable[[], None]
    is_read_only: bool = True


@dataclass(frozen=True)
class Result:
    """The outcome of one test; ``message`` is empty where it passed."""

    name: str
    tells: str
    is_passed: bool
    message: str
    duration_ms: float


def run(names: Collection[str] | None = None) -> list[Result]:
    """Run the named tests, or with None those that only read. Raises `InvalidInput` that names an unknown one."""
    unknown = sorted(set(names or ()) - {test.name for test in SELF_TESTS})
    if unknown:
        known = ", ".join(test.name for test in SELF_TESTS)
        errors = [{"path": "tests", "message": f"there is no test {unknown[0][:60]!a}; there are {known}"}]
        raise InvalidInput(f"Invalid input: tests: {errors[0]['message']}", details={"errors": errors})
    return [_run(test) for test in SELF_TESTS if (test.is_read_only if names is None else test.name in names)]


def _run(test: SelfTest) -> Result:
    began = time.perf_counter()
    try:
        test.try_out()
    except ApiManagerError as error:
        message = error.message
    except _Failed as error:
        message = str(error)
    except Exception as error:
        # Whatever goes wrong is what a test is there to find; the text of a stranger's error may name hosts.
        log.exception("self-test failed", test=test.name)
        message = f"{type(error).__name__}; the log tells more"
    else:
        message = ""
    return Result(test.name, test.tells, not message, message, round((time.perf_counter() - began) * 1000, 2))


# --- the tests ----------------------------------------------------------------------------------------------------


def _query_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_is_in_recovery()")
        (is_standby,) = cursor.fetchone()
    if is_standby:
        raise _Failed("The database is a standby: nothing can be written.")


def _check_services() -> None:
    if wrong := [f"{check.name}: {check.status}" for check in check_services() if not check.is_ok]:
        raise _Failed("; ".join(wrong))


def _ask_valkey() -> None:
    with valkey.translate_errors():
        valkey.quick_client().ping()


def _seal_and_open() -> None:
    identity = "self-test"
    if keyring().open(keyring().seal(identity.encode(), identity), identity) != identity.encode():
        raise _Failed("What was sealed opened as something else.")


def _open_stored_secrets() -> None:
    newest = live().order_by("-pk").first()
    if newest is not None:
        open_config(newest)


def _issue_and_decode_token() -> None:
    holder = KeyHolder("self-test", "self-test", scopes=frozenset())
    if tokens.decode_jwt(tokens.issue_jwt(holder).token)["sub"] != holder.key_id:
        raise _Failed("A token told of another key than it was made from.")


def _hear_worker() -> None:
    if heartbeats.seconds_since("worker") is None:
        raise _Failed("No worker has given a sign of life.")
    if heartbeats.seconds_since("slowWorker") is None:
        raise _Failed("No worker for the queue 'slow' has given a sign of life.")


def _hear_beat() -> None:
    if heartbeats.seconds_since("beat") is None:
        raise _Failed("The scheduler has given no sign of life.")


def _limit_rate() -> None:
    """Two slots a second, of which the third is refused."""
    limit = rate_limit.own_limit(f"self-test:{time.monotonic_ns()}", 2, 1)
    if [rate_limit.charge(limit).allowed for _ in range(3)] != [True, True, False]:
        raise _Failed("The rate limiter let through what it should not, or too little.")


def _write_audit_event() -> None:
    """Written and rolled back: the log keeps no test."""
    with transaction.atomic():
        audit.record_about("system.tested", "system")
        transaction.set_rollback(True)


SELF_TESTS = (
    SelfTest("database", "The database answers and can be written to.", _query_database),
    SelfTest("services", "Migrations, encryption keys and Valkey are as this release needs them.", _check_services),
    SelfTest("valkey", "Valkey answers.", _ask_valkey),
    SelfTest("encryption_keys", "ENCRYPTION_KEYS holds every key of this database.", verify_keys),
    SelfTest("sealing", "What is sealed opens again.", _seal_and_open),
    SelfTest("stored_secrets", "The newest provider's stored secrets open.", _open_stored_secrets),
    SelfTest("tokens", "A token that is issued verifies.", _issue_and_decode_token),
    SelfTest("worker", "A worker is alive.", _hear_worker),
    SelfTest("beat", "The scheduler is alive.", _hear_beat),
    SelfTest("rate_limiter", "The limiter in Valkey counts.", _limit_rate, is_read_only=False),
    SelfTest("audit_log", "An event can be written.", _write_audit_event, is_read_only=False),
)
"""Every test; those that are not read-only leave nothing behind either, but they write."""
