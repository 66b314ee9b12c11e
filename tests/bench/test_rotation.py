"""100,000 credentials of the first version resealed under data keys, while other processes read them."""

from __future__ import annotations

import io
import os
import signal
import time
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, connections

from connections.models import ExternalApiConnection, ExternalApiCredential
from external_apis.data_keys import data_keys
from external_apis.key_registry import register_writing_key
from external_apis.keyring import keyring
from external_apis.models import ExternalApi
from external_apis.rotation import take_census
from tests.factories import make_provider, make_tenant
from tests.vault import keys

pytestmark = pytest.mark.django_db(transaction=True)

_COUNT, _TENANTS, _BATCH = 100_000, 20, 2_000
_LIMIT_SECONDS = 120


def test_reads_go_on_while_every_credential_is_resealed(settings: Any, tmp_path: Any, capsys: Any) -> None:
    settings.ENCRYPTION_KEYS = keys(a=1)
    settings.BACKUP_KEYS_FILE = str(tmp_path / "backup-keys.json")
    register_writing_key()
    _insert(make_provider())
    settings.ENCRYPTION_KEYS = keys(b=2, a=1)
    reader, answers = _start_reader()
    began = time.perf_counter()
    try:
        call_command("rotate_encryption_keys", stdout=io.StringIO())
    finally:
        seconds = time.perf_counter() - began
        os.kill(reader, signal.SIGTERM)
        os.waitpid(reader, 0)
    reads, failures = map(int, os.read(answers, 100).split())
    census = take_census()
    began = time.perf_counter()
    settings.ENCRYPTION_KEYS = keys(c=3, b=2)
    call_command("rotate_encryption_keys", stdout=io.StringIO())
    again = time.perf_counter() - began
    with capsys.disabled():
        print(
            f"\n{_COUNT} credentials resealed in {seconds:.1f} s (at most {_LIMIT_SECONDS} s), {reads} read meanwhile, "
            f"{failures} failed; the next master key in {again:.1f} s, because data keys alone are resealed"
        )
    assert census.remaining == 0
    assert sum(count for (column, _), count in census.rows.items() if "Credential" in column) == _COUNT
    assert failures == 0
    assert reads > 1_000
    assert seconds < _LIMIT_SECONDS


def _insert(api: ExternalApi) -> None:
    """Connections of several tenants whose credentials are sealed directly under the master key."""
    tenants = [make_tenant() for _ in range(_TENANTS)]
    label = ExternalApiCredential._meta.label_lower
    for start in range(0, _COUNT, _BATCH):
        rows = [
            ExternalApiConnection(external_api=api, tenant=tenants[n % _TENANTS], connection_name=f"{n}", slug=f"n-{n}")
            for n in range(start, start + _BATCH)
        ]
        ExternalApiConnection.objects.bulk_create(rows)
        sealed = [
            keyring().seal(b'{"access_token":"token-of-%s"}' % row.pk.encode(), f"{label}:{row.pk}:secrets")
            for row in rows
        ]
        ExternalApiCredential.objects.bulk_create(
            ExternalApiCredential(connection=row, tenant=row.tenant, secrets=value)
            for row, value in zip(rows, sealed, strict=True)
        )


def _start_reader() -> tuple[int, int]:
    """A process that opens credentials all over the table until it is told to end; it writes ``reads failures``."""
    answers, mine = os.pipe()
    connections.close_all()
    pid = os.fork()
    if pid:
        os.close(mine)
        return pid, answers
    counts = {"reads": 0, "failures": 0}

    def end(*_: object) -> None:
        os.write(mine, f"{counts['reads']} {counts['failures']}".encode())
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    data_keys().forget()
    ids = list(ExternalApiCredential.objects.values_list("pk", flat=True))
    while True:
        for start in range(1_000):
            some = ids[start::1_000]
            for row in ExternalApiCredential.objects.filter(pk__in=some):
                try:
                    counts["failures"] += row.secrets["access_token"] != f"token-of-{row.pk}"
                except Exception:
                    counts["failures"] += 1
                counts["reads"] += 1
            connection.close_if_unusable_or_obsolete()
