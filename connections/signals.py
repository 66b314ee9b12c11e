"""Signals of this floor, sent once the transaction that they tell of has committed."""

from __future__ import annotations

from django.dispatch import Signal

__all__ = ["grant_changed"]

grant_changed = Signal()
"""A grant needs somebody's attention, or does so no more.

Sender is `GrantEvent`; ``event_id``, ``connection_id`` and ``kind`` are those of the event: ``expiring_soon``,
``expired``, ``revoked``, ``in_doubt``, ``needs_reauthorization``, ``renewal_failing`` or ``restored``. A receiver that
fails is logged and changes nothing.
"""
