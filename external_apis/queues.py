"""Celery's queues."""

from __future__ import annotations

__all__ = ["QUEUES"]

QUEUES = ("celery", "slow")
"""Their names, which are those of lists in Valkey. A task that a worker has taken is in none."""
