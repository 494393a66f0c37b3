"""Traces of requests by OpenTelemetry: a span for each request, and one for each stage of a ranking below it.

On where OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT names a collector; needs the extra `tracing`.
The other variables of OpenTelemetry hold too, OTEL_SERVICE_NAME and OTEL_TRACES_SAMPLER for example. A caller's
`traceparent` is continued. Spans are sent in the background.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recsys.serving.request_context import open_span

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

logger = logging.getLogger(__name__)
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_NOT_TRACED = ("/health/", "/metrics")
_END_SECONDS = 2.0
"""How long the last spans may take, so that a collector that hangs does not keep a server from ending."""


def is_wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment names a collector, and tracing is not turned off."""
    off = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return not off and any(environment.get(name) for name in ENDPOINTS)


@contextmanager
def tracer() -> Iterator[Tracer | None]:
    """What records the spans of this process, whose last ones are sent at the end; None where none are wanted, or the
    extra is not installed, which is logged."""
    if not is_wanted():
        yield None
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        logger.warning("no traces are recorded, %s; install the extra: pip install 'recsys[tracing]'", error)
        yield None
        return
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "recsys"}
    provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    try:
        yield provider.get_tracer("recsys")
    finally:
        ending = Thread(target=provider.shutdown, name="traces", daemon=True)
        ending.start()
        ending.join(_END_SECONDS)


class TracingMiddleware:
    """ASGI middleware that records a span of every request but those of health and metrics."""

    def __init__(self, app: ASGIApp, *, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; all but HTTP passes through."""
        if scope["type"] != "http" or scope["path"].startswith(_NOT_TRACED):
            await self._app(scope, receive, send)
            return
        from opentelemetry.trace import SpanKind, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        sent = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        caller = TraceContextTextMapPropagator().extract(sent)
        method = scope["method"]
        with self._tracer.start_as_current_span(method, context=caller, kind=SpanKind.SERVER) as recorded:
            recorded.set_attribute("http.request.method", method)

            async def note_status(message: Message) -> None:
                if message["type"] == "http.response.start":
                    recorded.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        recorded.set_status(StatusCode.ERROR)
                await send(message)

            began = open_span.set(self._tracer.start_as_current_span)
            try:
                await self._app(scope, receive, note_status)
            finally:
                open_span.reset(began)
                route = getattr(scope.get("route"), "path", None)
                if route is not None:
                    recorded.update_name(f"{method} {route}")
                    recorded.set_attribute("http.route", route)
                recorded.set_attribute("recsys.request_id", scope.get("state", {}).get("request_id", ""))
