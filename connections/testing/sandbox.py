"""The sandbox as a process of the tests' own, and connections to it without a row."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from connections.client import ApiClient, Target
from connections.sandbox import definitions
from connections.testing.doubles import replacing
from external_apis import api_config
from external_apis.crypto import Secrets
from external_apis.egress import Allowance, Policy
from external_apis.transport import Transport

__all__ = ["Sandbox", "running_sandbox", "sandbox_connection"]

_START = "sandbox listening on "


@dataclass(frozen=True)
class Sandbox:
    """``url`` is the origin of a running sandbox, without a slash at its end."""

    url: str


@contextmanager
def running_sandbox() -> Iterator[Sandbox]:
    """Run a sandbox on a free port for as long as the block lasts; raises RuntimeError when it does not start."""
    command = [sys.executable, "-m", "connections.sandbox", "--port", "0", "--quiet", "--die-with-parent"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 (a fixed command)
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line.startswith(_START):
                raise RuntimeError("The sandbox did not start.")
            yield Sandbox(line.removeprefix(_START).strip())
        finally:
            process.kill()


@contextmanager
def sandbox_connection(reference: str, sandbox: Sandbox, scheme: str = "bearer") -> Iterator[None]:
    """Let ``get_api_client(reference)`` call the sandbox under one of its schemes (``hmac``, ``oauth1``, ``none``, …).

    Only the sandbox can be reached, whatever ``EGRESS_ALLOW`` says. Raises ValueError for an unknown scheme.
    """
    known = {body["slug"].removeprefix("sandbox-"): body for body in definitions.providers(sandbox.url)}
    if scheme not in known:
        raise ValueError(f"The sandbox's schemes are {', '.join(known)}.")
    slug, _, connection_slug = reference.partition("/")
    connection = known[scheme]["connection"]
    target = Target(
        provider_id="",
        provider_slug=slug,
        connection_id="",
        connection_slug=connection_slug or "default",
        config=api_config.parse(known[scheme]["api_config"], environment="development"),
        credentials=Secrets(connection["credentials"]),
        provider_data=connection["provider_data"],
    )
    transport = Transport(Policy((Allowance.parse(sandbox.url.partition("://")[2]),)))
    with replacing(reference, lambda: ApiClient(target, transport=transport)):
        yield
