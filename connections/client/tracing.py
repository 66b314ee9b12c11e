"""OpenTelemetry spans of calls: off, and costing nothing, unless the environment names where they go.

``OTEL_EXPORTER_OTLP_ENDPOINT`` (or ``…_TRACES_ENDPOINT``) turns them on; the SDK reads its other variables itself. The
SDK is the extra ``[otel]``, not even imported otherwise; where it is missing a warning says so. No provider is sent a
``traceparent``: it would tell strangers which of our calls belong together. A caller of ours who sends one finds our
span below its own.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from connections.client.samples import Sample

__all__ = ["IS_ON", "Step", "tell"]

Step = tuple[int, str, dict[str, Any]]
"""When something happened (nanoseconds since 1970), what, and its facts."""


def _is_on() -> bool:
    named = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    is_off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return bool(named) and not is_off and os.environ.get("OTEL_TRACES_EXPORTER", "otlp") == "otlp"


IS_ON = _is_on()

_EXIT_SECONDS, _SILENCE_SECONDS = 1.0, 600.0

if IS_ON:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace import SpanKind, Status, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
    except ImportError:
        IS_ON = False  # clusters put the variable into every container that they start
        message = "No traces: OTEL_EXPORTER_OTLP_ENDPOINT is set, and the extra [otel] is not installed."
        logging.getLogger(__name__).warning(message)


def tell(provider: str, sample: Sample, steps: Sequence[Step], parent: str = "") -> None:
    """Hand a call's span over for export, with an event for each step; nobody waits for that.

    ``parent`` is the ``traceparent`` of who asked for the call, empty where the span begins a trace.
    """
    now = time.time_ns()
    span = _tracer().start_span(
        f"{sample.method} {provider}",
        context=TraceContextTextMapPropagator().extract({"traceparent": parent}),
        kind=SpanKind.CLIENT,
        start_time=steps[0][0] if steps else now,
        attributes={
            "http.request.method": sample.method,
            "url.path": sample.path,
            "http.request.resend_count": max(sample.attempts - 1, 0),
            "eam.provider": provider,
            "eam.connection.id": sample.connection_id,
            "eam.request.id": sample.request_id,
        },
    )
    if sample.status is not None:
        span.set_attribute("http.response.status_code", sample.status)
    if sample.error:
        span.set_attribute("error.type", sample.error)
        span.set_status(Status(StatusCode.ERROR))
    for at, name, facts in steps:
        span.add_event(name, facts, timestamp=at)
    span.end(now)


@lru_cache(maxsize=1)
def _tracer() -> Any:
    # Made at the first span: its thread would not survive a server's fork.
    own = {} if _is_named() else {"service.name": "external-api-manager"}
    provider = TracerProvider(resource=Resource.create(own), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    atexit.register(_end, provider)
    logging.getLogger(OTLPSpanExporter.__module__).addFilter(_Seldom())
    return provider.get_tracer("connections.client")


class _Seldom(logging.Filter):
    """Lets one line pass in ten minutes: a collector that is away is not worth several for each batch of spans."""

    _next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + _SILENCE_SECONDS
        return True


def _end(provider: Any) -> None:
    """Send what is left; a collector that is away holds up the end of a process for a second and no longer."""
    thread = threading.Thread(target=provider.shutdown, name="last-spans", daemon=True)
    thread.start()
    thread.join(_EXIT_SECONDS)


def _is_named() -> bool:
    return "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
