"""Webhooks that providers send us."""
