"""Signs messages as Standard Webhooks says (standardwebhooks.com), under several secrets while one replaces another.

An endpoint's secrets are stored by name: ``secret`` is the newest; one that it replaced is called ``until`` and the
moment at which it stops signing.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from standardwebhooks import Webhook

from external_apis.json_output import timestamp

__all__ = ["CURRENT", "KEPT_AT_MOST", "Signer", "begin", "living", "make_secret", "roll"]

CURRENT = "secret"
KEPT_AT_MOST = 5
"""How many replaced secrets may sign beside the newest: each makes the header longer."""

_UNTIL = "until "
_SECRET_BYTES = 32


def make_secret() -> str:
    """Return ``whsec_`` and 32 random bytes in base64."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def begin() -> dict[str, str]:
    """Return the secrets of a new endpoint."""
    return {CURRENT: make_secret()}


def roll(stored: Mapping[str, str], overlap: timedelta, now: datetime) -> dict[str, str]:
    """Return the secrets with a new one; the one before signs as well until the overlap is over.

    Those whose time has come are left out, and of too many those that end first.
    """
    kept = {name: value for name, value in stored.items() if name != CURRENT and _is_living(name, now)}
    if overlap and CURRENT in stored:
        kept[_UNTIL + timestamp(now + overlap)] = stored[CURRENT]
    latest = sorted(kept, reverse=True)[:KEPT_AT_MOST]
    return {CURRENT: make_secret(), **{name: kept[name] for name in latest}}


def living(stored: Mapping[str, str], now: datetime) -> list[str]:
    """Return the secrets that sign now, the newest first."""
    names = sorted(
        (name for name in stored if name == CURRENT or _is_living(name, now)), key=lambda name: name != CURRENT
    )
    return [stored[name] for name in names]


class Signer:
    """Signs under a few secrets; its ``repr`` shows none of them."""

    def __init__(self, secrets_: Sequence[str]) -> None:
        self._webhooks = [Webhook(secret) for secret in secrets_]

    def headers(self, message_id: str, sent_at: datetime, body: str) -> dict[str, str]:
        """Return the three headers of a message that is sent at this moment, to the second."""
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(sent_at.timestamp())),
            "webhook-signature": " ".join(webhook.sign(message_id, sent_at, body) for webhook in self._webhooks),
        }


def _is_living(name: str, now: datetime) -> bool:
    # All of these are written in one way, in UTC, so that text is in the order of time.
    return name.startswith(_UNTIL) and name > _UNTIL + timestamp(now)
