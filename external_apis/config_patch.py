"""Changing a stored ``api_config``: a JSON merge patch (RFC 7396) in which shown secrets may come back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from external_apis.api_config import AUTH_BLOCKS
from external_apis.errors import InvalidConfiguration

FACTS_SUFFIX = "_encrypted"
"""Answers show ``client_secret_encrypted`` where ``client_secret`` is stored."""


def merged(stored: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """Apply a JSON merge patch; a changed auth type drops the blocks that only the old one knows."""
    result = dict(stored)
    if patch.get("auth_type", stored.get("auth_type")) != stored.get("auth_type"):
        for block in (*AUTH_BLOCKS, "mutual_tls"):
            result.pop(block, None)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict):
            inner = result.get(name)
            result[name] = merged(inner if isinstance(inner, dict) else {}, value)
        else:
            result[name] = value
    return result


def without_facts(patch: Mapping[str, Any], fingerprints: Mapping[str, str], prefix: str = "") -> dict[str, Any]:
    """Take out ``…_encrypted`` entries that repeat what we showed; refuse those that do not."""
    kept: dict[str, Any] = {}
    for name, value in patch.items():
        path = f"{prefix}{name}"
        if name.endswith(FACTS_SUFFIX):
            stored = fingerprints.get(path.removesuffix(FACTS_SUFFIX))
            if not isinstance(value, dict) or stored is None or value.get("fingerprint") != stored:
                message = f"is not what is stored; a new secret goes into {name.removesuffix(FACTS_SUFFIX)}"
                raise InvalidConfiguration(
                    f"Invalid API configuration: api_config.{path}: {message}",
                    details={"errors": [{"path": f"api_config.{path}", "message": message}]},
                )
        elif isinstance(value, dict):
            kept[name] = without_facts(value, fingerprints, f"{path}.")
        else:
            kept[name] = value
    return kept


def replaced_names(stored: Mapping[str, Any], patch: Mapping[str, Any], names: Collection[str]) -> set[str]:
    """Return those of the stored secrets' ``names`` (paths) that a patch sets, removes or drops with their block."""
    given = _leaves(patch, "")
    dropped = AUTH_BLOCKS if patch.get("auth_type", stored.get("auth_type")) != stored.get("auth_type") else ()
    return {
        name
        for name in names
        if name.split(".")[0] in dropped or any(name == leaf or name.startswith(f"{leaf}.") for leaf in given)
    }


def _leaves(patch: Mapping[str, Any], prefix: str) -> set[str]:
    found: set[str] = set()
    for name, value in patch.items():
        found |= _leaves(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}"}
    return found
