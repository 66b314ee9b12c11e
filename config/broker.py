"""The Celery application, through which every process publishes; `config.celery` is what the worker and beat add."""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.signals import before_task_publish
from kombu.transport import TRANSPORT_ALIASES

from external_apis import request_context

__all__ = ["REQUEST_ID", "app"]

REQUEST_ID = "eam_request_id"
"""The header of a message that carries the id of the request it comes from."""

# By its name: who only publishes late, or never, does not load it.
TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), "config.valkey_transport:Transport"))

app = Celery("config")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
# Threads that did not make it find it too.
app.set_default()


@before_task_publish.connect
def _send_request_id(headers: dict[str, Any], **_: object) -> None:
    # The id alone: whatever else a task needs it finds in the database.
    if request_id := request_context.current().request_id:
        headers[REQUEST_ID] = request_id
