"""Where a provider's configuration sends credentials, and the people who give them: what must not move unnoticed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

__all__ = ["destinations"]


def destinations(config: Mapping[str, Any]) -> frozenset[str]:
    """Return the origins of all URLs of a stored configuration, and the rules of variables that stand in them.

    A configuration that has others than another one sends what is stored to somebody who did not have it before.
    """
    variables = config.get("url_variables") or {}
    rules = {f"{name}={json.dumps(rule, sort_keys=True)}" for name, rule in variables.items()}
    return frozenset(rules | set(_origins(config)))


def _origins(config: Mapping[str, Any]) -> Iterator[str]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _origins(value)
        elif isinstance(value, str) and name.endswith(("_url", "_uri")):
            parts = urlsplit(value)
            yield f"{parts.scheme}://{parts.netloc}".lower()
