"""The locked sets agree: whatever is installed somewhere is what was tested."""

from __future__ import annotations

import re

import pytest

from config import runtime

FOLDER = runtime.CHECKOUT / "requirements"


def _pins(name: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9._-]+==[^ ]+)", (FOLDER / f"{name}.txt").read_text(), flags=re.MULTILINE))


@pytest.mark.parametrize("name", ["run", "server", "otel"])
def test_a_lock_holds_what_is_tested(name: str) -> None:
    assert _pins(name)
    assert _pins(name) <= _pins("dev")
    assert f"requirements/{name}.txt" in (runtime.CHECKOUT / "Makefile").read_text()


def test_the_lock_for_traces_is_that_of_the_server_and_more() -> None:
    more = _pins("otel") - _pins("server")
    assert _pins("server") < _pins("otel")
    assert {pin.partition("==")[0] for pin in more} >= {"opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"}
