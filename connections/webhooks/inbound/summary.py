"""What became of an event, in a few words for people."""

from __future__ import annotations

from connections.models import EventStatus, WebhookEvent

__all__ = ["explain", "is_tried_again"]

_LONGEST = 300


def is_tried_again(row: WebhookEvent) -> bool:
    """Whether an attempt has been made, and was not the last one."""
    return row.status == EventStatus.RECEIVED and row.attempts > 0


def explain(row: WebhookEvent) -> str:
    """Return what has failed, or why nothing was done; nothing where all went well or nothing was tried."""
    failed = [f"{name}: {result['error']}" for name, result in row.results.items() if result.get("error")]
    if failed:
        return "; ".join(failed)[:_LONGEST]
    if row.status == EventStatus.IGNORED:
        return "no entry of the provider's events wants its type"
    return "no handler took it" if row.status == EventStatus.PROCESSED and not row.results else ""
