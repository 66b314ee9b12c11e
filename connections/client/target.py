"""Whom a client talks to, with the secrets that it needs for that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from external_apis.api_config import ApiConfig, secret_values, url_values
from external_apis.crypto import Secrets

__all__ = ["Target"]


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Target:
    """A provider and one connection to it, opened. It is printed by name only, and never pickled.

    ``config`` has its secrets filled in (`api_config.join`); ``credentials`` are the connection's own. An empty
    ``connection_id`` is a connection that is not stored: its calls are not counted.
    """

    provider_id: str
    provider_slug: str
    connection_id: str
    connection_slug: str
    config: ApiConfig
    credentials: Mapping[str, str] = field(default_factory=Secrets)
    provider_data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.provider_slug}/{self.connection_slug}"

    def variables(self) -> dict[str, str]:
        """Return the values of the provider's URL variables; raises `InvalidInput` that names what is missing."""
        return url_values(self.config, self.provider_data)

    def secrets(self) -> frozenset[str]:
        """Return every secret value that a request of this target could carry."""
        return frozenset((*self.credentials.values(), *secret_values(self.config).values()))

    def named_secrets(self) -> dict[str, str]:
        """Return the same by name; the provider's own have dotted ones, and stand behind the connection's."""
        return secret_values(self.config) | dict(self.credentials)

    def __repr__(self) -> str:
        return f"<Target {self.name}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A Target is not pickled.")
