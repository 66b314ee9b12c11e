"""``/metrics``: everything that was counted, in Prometheus' text format.

Written by hand: the figures of all processes stand summed up in the database already, where the usual library would
have each process keep files of its own for another to merge. They are those of the last roll-up, some seconds old.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import redis
from django.conf import settings
from django.utils import timezone

from connections.client import measures
from connections.client.measures import Bag
from connections.models import ExternalApiConnection, Grant, ProviderTotal
from external_apis import heartbeats, valkey
from external_apis.errors import ServiceUnavailable
from external_apis.queues import QUEUES

__all__ = ["CONTENT_TYPE", "render"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = Mapping[str, str]
Series = Iterable[tuple[Labels, float]]

_KINDS = tuple(heartbeats.LIVES_SECONDS)
_OVERDUE_SECONDS = 60
_SHOWN_BOUNDS = range(4, 85, 4)  # 0.2 ms, and its doubles up to some 200 s
_STARTED = time.time()


def render() -> str:
    """Return all metrics. Without Valkey those that it alone knows are left out."""
    totals = _totals_by_slug()
    parts = [
        _family("eam_calls", "counter", "Calls of which a request was sent.", _of(totals, measures.CALLS)),
        _family("eam_call_errors", "counter", "Calls that ended in an error, by its code.", _codes(totals)),
        _family("eam_call_answers", "counter", "Calls by the class of the last answer's status.", _statuses(totals)),
        _histogram("eam_call_duration_seconds", "Duration of calls, with all attempts and waits.", totals),
        _family(
            "eam_rate_limit_waits",
            "counter",
            "Waits for a rate limit: for a slot, or as a 429 asked for.",
            _of(totals, measures.WAITS),
        ),
        _family(
            "eam_rate_limit_wait_seconds",
            "counter",
            "Seconds of these waits.",
            _of(totals, measures.WAIT_MS, 1000),
        ),
        _family("eam_sent_bytes", "counter", "Bytes of requests' bodies.", _of(totals, measures.BYTES_OUT)),
        _family("eam_received_bytes", "counter", "Bytes of answers' bodies.", _of(totals, measures.BYTES_IN)),
        _family(
            "eam_refreshes_overdue", "gauge", "Grants due for more than a minute.", [({}, float(_overdue_refreshes()))]
        ),
        *_by_connection(),
        *_processes(),
        *_own_process(),
    ]
    return "".join(parts)


def _totals_by_slug() -> dict[str, Bag]:
    """Providers that share a slug, such as a tenant's and everybody's, are one here."""
    found: dict[str, Bag] = {}
    rows = ProviderTotal.objects.order_by("external_api__slug")
    for slug, figures in rows.values_list("external_api__slug", "figures"):
        measures.add(found.setdefault(slug, {}), figures)
    return found


def _of(totals: Mapping[str, Bag], name: str, unit: int = 1) -> Series:
    return [({"provider": slug}, bag.get(name, 0) / unit) for slug, bag in totals.items()]


def _codes(totals: Mapping[str, Bag]) -> Series:
    for slug, bag in totals.items():
        for code, number in sorted(measures.numbered(bag, measures.ERROR).items()):
            yield {"provider": slug, "code": code}, number


def _statuses(totals: Mapping[str, Bag]) -> Series:
    for slug, bag in totals.items():
        for status, number in sorted(measures.numbered(bag, measures.STATUS).items()):
            yield {"provider": slug, "status": status}, number


def _overdue_refreshes() -> int:
    before = timezone.now() - timedelta(seconds=_OVERDUE_SECONDS)
    return Grant.objects.filter(due_at__lt=before, connection__deleted_at=None).count()


def _by_connection() -> Iterator[str]:
    if not settings.METRICS_BY_CONNECTION:
        return
    rows = ExternalApiConnection.objects.filter(deleted_at=None).order_by("pk")
    found = list(rows.values_list("external_api__slug", "pk", "calls_count", "errors_count"))
    labels = [{"provider": row[0], "connection": row[1]} for row in found]
    calls = [(label, float(row[2])) for label, row in zip(labels, found, strict=True)]
    errors = [(label, float(row[3])) for label, row in zip(labels, found, strict=True)]
    yield _family("eam_connection_calls", "counter", "Calls by connection.", calls)
    yield _family("eam_connection_errors", "counter", "Calls that ended in an error, by connection.", errors)


def _processes() -> Iterator[str]:
    with suppress(redis.RedisError):
        waiting = float(sum(valkey.quick_client().llen(queue) for queue in QUEUES))
        yield _family("eam_queue_tasks", "gauge", "Tasks that no worker has taken yet.", [({}, waiting)])
    with suppress(ServiceUnavailable):
        alive = [({"process": kind}, float(heartbeats.seconds_since(kind) is not None)) for kind in _KINDS]
        yield _family("eam_process_up", "gauge", "Whether a worker and the scheduler gave a sign of life.", alive)


def _own_process() -> Iterator[str]:
    """The names that Prometheus' own libraries use, of the web process that happens to answer."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    labels = {"pid": str(os.getpid())}
    told = [
        ("process_cpu_seconds", "counter", "Processor time.", used.ru_utime + used.ru_stime),
        ("process_start_time_seconds", "gauge", "When it started, in seconds since 1970.", _STARTED),
    ]
    with suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        told.append(("process_resident_memory_bytes", "gauge", "Memory.", float(pages * resource.getpagesize())))
        told.append(
            ("process_open_fds", "gauge", "Open files.", float(sum(1 for _ in Path("/proc/self/fd").iterdir())))
        )
    for name, kind, meaning, value in told:
        yield _family(name, kind, meaning, [(labels, value)])


def _family(name: str, kind: str, meaning: str, series: Series) -> str:
    name = f"{name}_total" if kind == "counter" else name
    lines = [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
    lines += [f"{name}{_shown(labels)} {_number(value)}" for labels, value in series]
    return "\n".join(lines) + "\n"


def _histogram(name: str, meaning: str, totals: Mapping[str, Bag]) -> str:
    lines = [f"# HELP {name} {meaning}", f"# TYPE {name} histogram"]
    for slug, bag in totals.items():
        counts = {int(bucket): count for bucket, count in measures.numbered(bag, measures.BUCKET).items()}
        for bound in _SHOWN_BOUNDS:
            count = sum(number for bucket, number in counts.items() if bucket <= bound)
            le = _number(measures.bound_seconds(bound))
            lines.append(f"{name}_bucket{_shown({'provider': slug, 'le': le})} {count}")
        everything = sum(counts.values())
        lines.append(f"{name}_bucket{_shown({'provider': slug, 'le': '+Inf'})} {everything}")
        lines.append(f"{name}_sum{_shown({'provider': slug})} {_number(bag.get(measures.MICROSECONDS, 0) / 1e6)}")
        lines.append(f"{name}_count{_shown({'provider': slug})} {everything}")
    return "\n".join(lines) + "\n"


def _shown(labels: Labels) -> str:
    """Labels are slugs, ids and codes of ours, but their format is kept whatever they are."""
    pairs = ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return repr(int(value)) if value == int(value) else repr(round(value, 6))
