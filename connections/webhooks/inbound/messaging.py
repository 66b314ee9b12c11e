"""What Meta calls the messages that it tells of: they are no changes of a field, and a body does not name their types.

Source: https://developers.facebook.com/docs/messenger-platform/webhooks#events
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connections.webhooks.inbound.deliveries import Delivery

__all__ = ["MessagingTypes"]

_HANDOVERS = ("messaging_handovers",)
# Where Messenger and Instagram have two names for one thing, either may be subscribed to.
_TYPES: Mapping[str, Sequence[str]] = {
    "message": ("messages",),
    "message_edit": ("message_edits",),
    "delivery": ("message_deliveries",),
    "read": ("message_reads", "messaging_seen"),
    "reaction": ("message_reactions",),
    "postback": ("messaging_postbacks",),
    "optin": ("messaging_optins",),
    "referral": ("messaging_referrals", "messaging_referral"),
    "account_linking": ("messaging_account_linking",),
    "messaging_feedback": ("messaging_feedback",),
    "game_play": ("messaging_game_plays",),
    "policy_enforcement": ("messaging_policy_enforcement",),
    "policy-enforcement": ("messaging_policy_enforcement",),
    "pass_thread_control": _HANDOVERS,
    "take_thread_control": _HANDOVERS,
    "request_thread_control": _HANDOVERS,
    "app_roles": _HANDOVERS,
}


@dataclass(frozen=True)
class MessagingTypes:
    """The types of all items in ``entry.*.messaging`` and ``entry.*.standby``, which is a type itself."""

    def find(self, delivery: Delivery) -> Iterator[Any]:
        for entry in _objects(_member(delivery.payload, "entry")):
            for item in _objects(_member(entry, "messaging")):
                yield from _types(item)
            yield from ("standby" for _ in _objects(_member(entry, "standby")))


def _types(item: dict[str, Any]) -> Sequence[str]:
    if _member(item.get("message"), "is_echo") is True:
        return ("message_echoes",)
    if types := next((types for kind, types in _TYPES.items() if kind in item), ()):
        return types
    # One that is newer than the table has the name of its member, as others have.
    return tuple(name for name in item if name.startswith("messaging_")) or ("messaging",)


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())
