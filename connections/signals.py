"""Signals of this floor, sent once the transaction that they tell of has committed."""

from __future__ import annotations

from django.dispatch import Signal

__all__ = ["grant_changed", "webhook_received"]

grant_changed = Signal()
"""A grant needs somebody's attention, or does so no more.

Sender is `GrantEvent`; ``event_id``, ``connection_id`` and ``kind`` are those of the event: ``expiring_soon``,
``expired``, ``revoked``, ``in_doubt``, ``needs_reauthorization``, ``renewal_failing`` or ``restored``. A receiver that
fails is logged and changes nothing.
"""

webhook_received = Signal()
"""A provider's event was stored, and is about to be processed.

Sender is `WebhookEvent`; ``event_id`` is the row's, ``external_api_id`` and ``tenant_id`` are the provider's,
``event_type`` is the provider's word for it. Sent once in the process that received it, before the provider is
answered, so a receiver has to be quick; it is lost when that process is killed just then. What has to happen belongs
into a handler (`connections.webhooks.inbound.handlers`).
"""
