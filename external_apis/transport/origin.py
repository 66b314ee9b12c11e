"""What a credential belongs to."""

from __future__ import annotations

from dataclasses import dataclass

from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from external_apis.errors import EgressRefused

__all__ = ["Origin"]

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port (RFC 6454): what a credential belongs to."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str | Url) -> Origin:
        """Return the origin of an absolute http or https URL; raises `EgressRefused` for anything else."""
        try:
            parts = parse_url(url) if isinstance(url, str) else url
        except LocationParseError:
            raise EgressRefused("The URL cannot be parsed.") from None
        if parts.scheme not in _DEFAULT_PORTS or not parts.host:
            raise EgressRefused("Only absolute http and https URLs may be called.")
        if parts.auth is not None:
            raise EgressRefused(f"{parts.host} is refused: a URL may not carry a user name or password.")
        return cls(parts.scheme, parts.host.lower(), parts.port or _DEFAULT_PORTS[parts.scheme])

    def __str__(self) -> str:
        suffix = "" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{suffix}"

    @property
    def host_header(self) -> str:
        return str(self).partition("://")[2]
