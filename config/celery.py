"""The Celery application: ``celery -A config worker`` and ``celery -A config beat``."""

from __future__ import annotations

import gc
import os
import warnings
from typing import Any

from celery.exceptions import SecurityWarning
from celery.signals import (
    after_task_publish,
    beat_embedded_init,
    beat_init,
    heartbeat_sent,
    task_prerun,
    worker_before_create_process,
    worker_init,
    worker_process_init,
    worker_shutting_down,
)

from config import lifeline, postgres, sealed_under
from connections import stopping
from external_apis import heartbeats, request_context

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
os.environ.setdefault("DATABASE_STATEMENT_MS", postgres.SERVING_STATEMENT_MS)
# The worker forks; a connection pool's threads would not survive it.
os.environ.setdefault("DATABASE_POOL_SIZE", "0")

# It warns root of pickled tasks; this worker accepts JSON alone.
warnings.filterwarnings("ignore", category=SecurityWarning)

# Reading settings, so only now: the environment has been completed.
from config.broker import REQUEST_ID, app  # noqa: E402

__all__ = ["app"]


@worker_before_create_process.connect
def _share_memory(**_: object) -> None:
    # A child's collector writes to all that it looks at, and what is written to is copied.
    gc.collect()
    gc.freeze()


@worker_process_init.connect
@beat_embedded_init.connect
def _end_with_master(**_: object) -> None:
    lifeline.watch_parent()


@worker_init.connect
def _refuse_foreign_keys(**_: object) -> None:
    sealed_under.end_with_foreign_keys()


@task_prerun.connect
def _take_request_id(task: Any, **_: object) -> None:
    request_context.start(str(task.request.get(REQUEST_ID) or ""))


@worker_init.connect
def _refuse_unusable_spool(**_: object) -> None:
    # Only now is there a registry of apps.
    from config import spool_required  # noqa: PLC0415

    spool_required.end_without_spool()


@worker_shutting_down.connect
def _end_sweeps(**_: object) -> None:
    stopping.stop()


@heartbeat_sent.connect
def _worker_is_alive(**_: object) -> None:
    for queue, kind in (("celery", "worker"), ("slow", "slowWorker")):
        if queue in app.amqp.queues.consume_from:
            heartbeats.note(kind)


@beat_init.connect
def _beat_is_alive(**_: object) -> None:
    heartbeats.note("beat")
    # Other processes publish too: in this one it is the scheduler's doing.
    after_task_publish.connect(_beat_has_sent)


def _beat_has_sent(**_: object) -> None:
    heartbeats.note("beat")
