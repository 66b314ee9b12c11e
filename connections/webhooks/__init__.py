"""Webhooks: those that providers send us (inbound), and those that we send."""

from connections.webhooks.inbound.handlers import ReceivedEvent, on_webhook

__all__ = ["ReceivedEvent", "on_webhook"]
