"""The sandbox provider for tests: the real process on a free port, once for each test session."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Sandbox:
    """``url`` is the origin, without a slash at its end."""

    url: str
    process: subprocess.Popen[str]

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    def requests(self, key: str) -> list[dict[str, Any]]:
        """The latest 100 requests that came with ``key=`` in their query or in ``X-Sandbox-Key``."""
        listed: list[dict[str, Any]] = self._ask(f"/_sandbox/requests?key={quote(key)}")["requests"]
        return listed

    def count(self, key: str) -> int:
        """How many requests came with that key."""
        return int(self._ask(f"/_sandbox/requests?key={quote(key)}")["count"])

    def total(self) -> int:
        """How many requests came at all, those about the sandbox itself not counted."""
        return int(self._ask("/_sandbox/requests")["total"])

    def reset(self) -> None:
        """Forget all requests, attempts, windows and nonces."""
        self._ask("/_sandbox/reset", method="POST")

    def register(self, client_id: str, **settings: Any) -> dict[str, Any]:
        """Register an OAuth client, or change the named settings of one; they are those of `oauth.clients.Client`."""
        return self._ask("/_sandbox/oauth", "POST", {"client_id": client_id, **settings})

    def oauth_counts(self, client_id: str) -> dict[str, int]:
        """What a client did: ``token_requests``, ``grant:…``, ``answered``, ``refreshed``, ``refused:…``."""
        counts: dict[str, int] = self._ask(f"/_sandbox/oauth?client_id={quote(client_id)}")["counts"]
        return counts

    def revoke_grants(self, client_id: str) -> int:
        """Revoke all that a client holds, as its users could; answers with how many grants that were."""
        return int(self._ask("/_sandbox/oauth/revoke", "POST", {"client_id": client_id})["revoked"])

    def _ask(self, path: str, method: str = "GET", body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, method=method)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as response:
            answer: dict[str, Any] = json.load(response)
        return answer


def start_sandbox(*arguments: str) -> Sandbox:
    """Start one on a free port; whoever starts it ends its ``process``."""
    command: Sequence[str] = [sys.executable, "-m", "connections.sandbox", "--port", "0", "--quiet", *arguments]
    process = subprocess.Popen([*command, "--die-with-parent"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("sandbox listening on "), f"the sandbox did not start: {line!r}"
    return Sandbox(line.split()[-1], process)


def stop_sandbox(sandbox: Sandbox) -> None:
    sandbox.process.terminate()
    try:
        sandbox.process.wait(10)
    finally:
        sandbox.process.kill()
        if sandbox.process.stdout is not None:
            sandbox.process.stdout.close()


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """The session's sandbox; tests tell themselves apart by keys of their own."""
    started = start_sandbox()
    yield started
    stop_sandbox(started)
