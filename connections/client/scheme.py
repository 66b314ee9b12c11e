"""What every auth scheme is: it reads its secrets once, and signs every request afresh."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NoReturn

from external_apis.errors import MissingCredential

if TYPE_CHECKING:
    from connections.client.outgoing import Outgoing
    from connections.client.target import Target

__all__ = ["FixedHeaders", "NoAuth", "Scheme"]

_HEADER_VALUE = re.compile(r"[\x20-\x7e\x80-\xff]*")


class Scheme:
    """Signs requests: override `read` to collect what signing needs, and `sign`."""

    covers_body = False
    """Whether the signature depends on the body, which then has to be known before it is sent."""

    def __init__(self, target: Target) -> None:
        self._target_name = target.name
        self.read(target)

    def read(self, target: Target) -> None:
        """Read the secrets; raises `MissingCredential` that names what is missing."""

    def sign(self, request: Outgoing, now: float) -> None:
        """Put the credential into the request; ``now`` is seconds since 1970."""
        raise NotImplementedError

    def pick(self, target: Target, names: tuple[str, ...], *fallbacks: Any) -> str:
        """Return the first of the connection's credentials that is there, else the provider's own value."""
        beside = target.config.also.names() if target.config.also else set()
        for name in names:
            # A second name is a courtesy, unless that credential has a header of its own.
            if (name == names[0] or name not in beside) and (value := target.credentials.get(name)):
                return value
        for secret in fallbacks:
            if secret is not None and (value := secret.get_secret_value()):
                return str(value)
        raise self.missing(names[0])

    def missing(self, name: str) -> MissingCredential:
        return MissingCredential(f"{self._target_name} has no {name}.", details={"credential": name})

    def header_value(self, prefix: str, secret: str, name: str) -> str:
        value = f"{prefix}{secret}"
        if not _HEADER_VALUE.fullmatch(value):
            message = f"The {name} of {self._target_name} holds characters that an HTTP header cannot carry."
            raise MissingCredential(message, details={"credential": name})
        return value

    def __reduce__(self) -> NoReturn:
        raise TypeError("A scheme holds secrets and is not pickled.")


class NoAuth(Scheme):
    def sign(self, request: Outgoing, now: float) -> None:
        """Leave the request as it is."""


class FixedHeaders(Scheme):
    """Schemes whose headers are the same in every request."""

    _headers: tuple[tuple[str, str], ...] = ()

    def sign(self, request: Outgoing, now: float) -> None:
        for name, value in self._headers:
            request.headers[name] = value
