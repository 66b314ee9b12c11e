"""What the installation uses: processor and memory, database, Valkey, queues and disks, each measured by itself."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import psutil
import redis
import structlog
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection

from external_apis import valkey
from external_apis.queues import QUEUES

__all__ = ["Part", "add_due", "measure"]

log = structlog.get_logger(__name__)

_due: dict[str, Callable[[], int]] = {}


@dataclass(frozen=True, slots=True)
class Part:
    """``figures`` by name, or ``error`` where they could not be had."""

    figures: Mapping[str, float] = field(default_factory=dict)
    error: str = ""


def add_due(name: str, count: Callable[[], int]) -> None:
    """Have rows counted that wait for a worker, which a floor above holds. Called by an app that is ready."""
    _due[name] = count


def measure() -> dict[str, Part]:
    """Return every part by its name. One that fails says so, and the others are measured all the same."""
    return {name: _part(name, look) for name, look in _PARTS.items()}


def _part(name: str, look: Callable[[], Mapping[str, float]]) -> Part:
    try:
        return Part(look())
    except (OSError, psutil.Error, DatabaseError, redis.RedisError) as error:
        # What exactly is wrong may name an address, so that it stays in the log.
        log.warning("a resource could not be measured", part=name, error=type(error).__name__)
        return Part(error="unavailable")


def _process() -> dict[str, float]:
    """This process: in an answer one that serves, in a sample one of the worker's."""
    process = psutil.Process()
    with process.oneshot():
        uptime = max(time.time() - process.create_time(), 0.001)
        times = process.cpu_times()
        return {
            "rss_bytes": process.memory_info().rss,
            # Since it was started: what it used since the last look would depend on who looked.
            "cpu_percent": round(100 * (times.user + times.system) / uptime, 2),
            "threads": process.num_threads(),
            "uptime_seconds": round(uptime, 1),
        }


def _database() -> dict[str, float]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_database_size(current_database()),"
            " (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()),"
            " current_setting('max_connections')::int"
        )
        size, connections, most = cursor.fetchone()
    return {"size_bytes": size, "connections": connections, "max_connections": most}


def _valkey() -> dict[str, float]:
    facts = valkey.client().info("memory")
    return {"used_bytes": facts["used_memory"], "max_bytes": facts.get("maxmemory", 0)}


def _queues() -> dict[str, float]:
    client = valkey.client()
    return {name: client.llen(name) for name in QUEUES}


def _due_rows() -> dict[str, float]:
    return {name: count() for name, count in _due.items()}


def _disks() -> dict[str, float]:
    """Of the folders that the product writes to; one that is not there, or not set, is left out."""
    found: dict[str, float] = {}
    for name in ("VAR_DIR", "SPOOL_DIR"):
        folder = getattr(settings, name, "")
        with suppress(FileNotFoundError):
            if folder:
                usage = shutil.disk_usage(folder)
                short = name.removesuffix("_DIR").lower()
                found |= {f"{short}_used_bytes": usage.used, f"{short}_free_bytes": usage.free}
    return found


_PARTS: Mapping[str, Callable[[], Mapping[str, float]]] = {
    "process": _process,
    "database": _database,
    "valkey": _valkey,
    "queues": _queues,
    "due": _due_rows,
    "disk": _disks,
}
