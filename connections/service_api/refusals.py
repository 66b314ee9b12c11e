"""Refusals of what was sent, with the fields under the names that the sender knows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from external_apis.errors import InvalidInput

__all__ = ["in_seed_words"]

_SEED_WORDS = {
    "api_config.base_url": "base_url",
    "api_config.api_version": "api_version",
    "api_config.auth_type": "auth_type",
    "credentials.expires_at": "expires_at",
    "category": "type",
}


@contextmanager
def in_seed_words() -> Iterator[None]:
    """Raise a service's `InvalidInput` of the block with seed 002's names in place of the service's."""
    try:
        yield
    except InvalidInput as error:
        message, errors = error.message, []
        for item in error.details.get("errors", ()):
            path = _SEED_WORDS.get(item["path"], item["path"])
            message = message.replace(item["path"], path)
            errors.append({**item, "path": path})
        raise InvalidInput(message, details={"errors": errors} if errors else None) from None
