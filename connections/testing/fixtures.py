"""A pytest plugin: ``pytest_plugins = ["connections.testing.fixtures"]`` in the root conftest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from connections.testing.doubles import fake_connection
from connections.testing.sandbox import Sandbox, running_sandbox, sandbox_connection

__all__ = ["fake_api", "sandbox_api", "sandbox_process"]


@pytest.fixture(scope="session")
def sandbox_process() -> Iterator[Sandbox]:
    """A sandbox that runs for the session."""
    with running_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def fake_api() -> Iterator[Callable[..., Any]]:
    """`fake_connection` for the rest of the test: ``calls = fake_api("stripe/default", answers=[...])``."""
    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(fake_connection(*args, **kwargs))


@pytest.fixture
def sandbox_api(sandbox_process: Sandbox) -> Iterator[Callable[..., None]]:
    """`sandbox_connection` for the rest of the test: ``sandbox_api("stripe/default", scheme="bearer")``."""
    with ExitStack() as stack:
        yield lambda reference, scheme="bearer": stack.enter_context(
            sandbox_connection(reference, sandbox_process, scheme)
        )
