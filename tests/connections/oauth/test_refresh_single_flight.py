"""Four processes with fifty threads each want the next token of one connection: the provider is asked once."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection as database
from django.utils import timezone

from config import runtime
from connections.models import ExternalApiCredential
from tests.grants import kinds, make_granted, secrets_of
from tests.token_server import TokenServer, token_server

pytestmark = pytest.mark.django_db(transaction=True)

PROCESSES, THREADS, ROUNDS = 4, 50, 20

OTHER = """
import json, sys, threading
from config import settings as _  # noqa
import django
from django.conf import settings
settings.DATABASES["default"].update(json.loads(sys.argv[1]))
# As the web has it: threads borrow connections for a query's time.
settings.DATABASES["default"]["OPTIONS"]["pool"] = {"min_size": 0, "max_size": 4, "timeout": 30}
settings.DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
django.setup()
from django.db import connections
from connections import lookup, warm
from connections.oauth import refresh

def ask(way, name, seen, stale, tokens):
    try:
        if way == "refused":
            row = refresh.replace_token(name, seen)
        else:
            row = refresh.ensure_fresh(stale)
        tokens.append(row.credential.secrets["access_token"])
    except BaseException as error:
        tokens.append(f"{type(error).__name__}: {error}")
    finally:
        connections.close_all()

print("ready", flush=True)
for line in sys.stdin:
    way, name, seen, count = line.split()
    tokens, stale = [], lookup.find(name)
    connections.close_all()
    threads = [threading.Thread(target=ask, args=(way, name, seen, stale, tokens)) for _ in range(int(count))]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print(json.dumps(tokens), flush=True)
"""


@pytest.fixture
def server(settings: Any, tmp_path: Path) -> Iterator[TokenServer]:
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    with token_server() as started:
        yield started


@pytest.fixture
def others(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    at = {name: str(database.settings_dict[name]) for name in ("NAME", "USER", "PASSWORD", "HOST", "PORT")}
    environ = {**os.environ, "EGRESS_ALLOW": "127.0.0.1", "SPOOL_DIR": str(tmp_path / "spool")}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", OTHER, json.dumps(at)],
            cwd=runtime.CHECKOUT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(PROCESSES)
    ]  # fmt: skip
    yield started
    for process in started:
        process.kill()
        process.communicate()


def hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    assert select.select([process.stdout], [], [], 30)[0], "a process is silent"
    return process.stdout.readline()


def test_one_request_for_all_in_every_round(server: TokenServer, others: list[subprocess.Popen[str]]) -> None:
    row = make_granted(server, expires_in=7200)
    for process in others:
        assert hear(process) == "ready\n"
    for number in range(1, ROUNDS + 1):
        seen, way = secrets_of(row)["access_token"], "refused" if number % 2 else "use"
        if way == "use":
            ExternalApiCredential.objects.filter(pk=row.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
        for process in others:
            assert process.stdin
            process.stdin.write(f"{way} {row.pk} {seen} {THREADS}\n")
            process.stdin.flush()
        answers = [token for process in others for token in json.loads(hear(process))]
        assert len(answers) == PROCESSES * THREADS
        assert set(answers) == {secrets_of(row)["access_token"]} != {seen}
        assert len(server.requests) == number
    assert kinds(row) == ["refreshed"] * ROUNDS
    assert not server.revoked
