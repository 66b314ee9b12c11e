"""``create-api-key`` (seed 003): makes one of our own API keys, and leaves no live one when what follows fails."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from connections.workflows import Context, step, workflow
from external_apis import keys
from external_apis.errors import NotFound
from external_apis.key_granting import Granter
from external_apis.key_input import KeyInput

__all__ = ["create_api_key", "create_key"]


def _admit(given: KeyInput, granter: Granter) -> KeyInput:
    """Whoever starts the run has to be allowed to make this very key, and passes on their own bounds."""
    return keys.admit(given.model_dump(mode="json"), granter)


def _remove_key(context: Context, given: Mapping[str, Any], result: Any) -> None:
    with suppress(NotFound):  # somebody was quicker
        keys.withdraw(keys.find(result["id"]))


# It is there together with its result, or not at all: nobody is ever in doubt about it.
@step(name="create-api-key", compensate=_remove_key, is_local=True)
def create_key(context: Context, *, key: dict[str, Any]) -> dict[str, Any]:
    created = keys.create(key, Granter(context.scope))
    context.hand_over(token=created.token)
    return {"id": created.key.pk, "redacted": created.key.redacted}


@workflow("create-api-key", input=KeyInput, needs="keys:write", admit=_admit)
def create_api_key(context: Context, given: KeyInput) -> Any:
    """Make an API key, whose token is handed over once to whoever started the run."""
    return {"api_key": create_key(context, key=given.model_dump(mode="json"))}
