"""What a token endpoint gave, in one shape whatever the provider."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, NoReturn

__all__ = ["Tokens"]


@dataclass(frozen=True, slots=True, repr=False)
class Tokens:
    """``scopes`` are the granted ones, None where the answer does not say. ``provider_data`` are facts to be kept.

    With a ``token_secret`` they are OAuth 1.0a's. Printed they show nothing, and they are not pickled.
    """

    access_token: str
    refresh_token: str | None = None
    token_type: str = "Bearer"  # noqa: S105 (the kind, no token)
    expires_at: datetime | None = None
    scopes: tuple[str, ...] | None = None
    provider_data: Mapping[str, str] = field(default_factory=dict)
    token_secret: str | None = None

    def credentials(self) -> dict[str, str]:
        """Return what is to be sealed, under the names that a connection's credentials have."""
        if self.token_secret is not None:
            return {"oauth_token": self.access_token, "oauth_token_secret": self.token_secret}
        return {"access_token": self.access_token} | (
            {"refresh_token": self.refresh_token} if self.refresh_token else {}
        )

    def to_json(self) -> str:
        """Return everything, secrets included, as text that `from_json` reads; it is to be sealed."""
        fields = asdict(self)
        fields["expires_at"] = self.expires_at.isoformat() if self.expires_at else None
        return json.dumps(fields)

    @classmethod
    def from_json(cls, text: str | bytes) -> Tokens:
        """Raises ValueError, TypeError or KeyError for text that `to_json` did not write."""
        fields: dict[str, Any] = json.loads(text)
        expires_at, scopes = fields.pop("expires_at"), fields.pop("scopes")
        return cls(
            **fields,
            expires_at=datetime.fromisoformat(expires_at) if expires_at else None,
            scopes=None if scopes is None else tuple(scopes),
        )

    def __repr__(self) -> str:
        return f"<Tokens until {self.expires_at}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("Tokens are not pickled.")
