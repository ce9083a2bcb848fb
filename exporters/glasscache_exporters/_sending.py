"""Sending that survives a fork: exporters that each process makes anew, and metrics that are sent apart from the SDK.

Decides which process uses which connection, and when metrics are collected. A child inherits its parent's locks as they
stand, and its sockets: the SDK's own reader holds a lock while it sends, so the child of a fork at that moment would
send nothing ever, and requests that measure would hang; on a connection that parent and child both use, each gets
the other's answers. So nothing here may hold a lock of the SDK while it sends, fork while it holds one, or send through
what another process has made.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import weakref
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, PeriodicExportingMetricReader
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.metrics.export import MetricsData
    from opentelemetry.sdk.trace import ReadableSpan

E = TypeVar("E")
_logger = logging.getLogger("glasscache")
_PAUSE = 1.0  # seconds that a fork waits at most for a collection under way; one takes milliseconds


class _Own(Generic[E]):
    """What `make` makes, once for each process. It raises at once what `make` raises."""

    def __init__(self, make: Callable[[], E]) -> None:
        self._make = make
        self._made = make()
        self._process = os.getpid()

    def __call__(self) -> E:
        if self._process != os.getpid():
            self._made = self._make()
            self._process = os.getpid()
        return self._made


class Spans(SpanExporter):
    """Sends spans by an exporter of this process's own."""

    def __init__(self, make: Callable[[], SpanExporter]) -> None:
        self._own = _Own(make)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send."""
        return self._own().export(spans)

    def shutdown(self) -> None:
        """Send no more."""
        self._own().shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what the exporter holds."""
        return self._own().force_flush(timeout_millis)


class Metrics(MetricExporter):
    """Collects and sends metrics every `interval` seconds, also in the child of a fork; `timeout` seconds each.

    `reader` belongs into a MeterProvider, whose shutdown collects and sends once more; then `start` it.
    """

    def __init__(self, make: Callable[[], MetricExporter], *, interval: float, timeout: float) -> None:
        self._own = own = _Own(make)
        super().__init__(own()._preferred_temporality, own()._preferred_aggregation)  # it is what a reader reads
        # Without an end of its interval the SDK starts no thread, and has none to start anew in a child.
        self.reader = PeriodicExportingMetricReader(self, export_interval_millis=math.inf)
        self._interval = interval
        self._timeout_millis = timeout * 1_000
        self._parcel: Callable[[], object] | None = None

    def start(self) -> None:
        """Begin; also anew, in the child of a fork, which has no thread but the one that forked."""
        self._collecting = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="glasscache-metrics", daemon=True)
        self._thread.start()
        _running.add(self)

    def _run(self) -> None:
        while not self._stopped.wait(self._interval):
            self._tell()
        self._tell()

    def _tell(self) -> None:
        try:
            with self._collecting:
                self.reader.collect(self._timeout_millis)
            self._send()
        except Exception:
            _logger.exception("metrics were not sent; the next try is in %g s", self._interval)

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any) -> MetricExportResult:
        """Take what the reader has collected: it is sent when the reader has let its locks go."""
        # The reader calls in a context that says: what happens in here is not to be traced.
        send = partial(self._own().export, metrics_data, timeout_millis=timeout_millis)
        self._parcel = partial(copy_context().run, send)
        return MetricExportResult.SUCCESS

    def _send(self) -> None:
        parcel, self._parcel = self._parcel, None
        if parcel is not None:
            parcel()

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Send what was collected."""
        self._send()
        return self._own().force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        """Collect and send a last time, then no more."""
        self._stopped.set()
        self._thread.join(timeout_millis / 1_000)
        _running.discard(self)
        self._own().shutdown(timeout_millis)

    def pause(self) -> None:
        """A fork is about to happen: not in the middle of a collection."""
        self._is_paused = self._collecting.acquire(timeout=_PAUSE)

    def go_on(self) -> None:
        """It has happened; this is the parent."""
        if self._is_paused:
            self._collecting.release()


_running: weakref.WeakSet[Metrics] = weakref.WeakSet()


def _each(do: Callable[[Metrics], None]) -> None:
    for metrics in list(_running):
        do(metrics)


getattr(os, "register_at_fork", lambda **_: None)(  # Windows does not fork
    before=partial(_each, Metrics.pause),
    after_in_parent=partial(_each, Metrics.go_on),
    after_in_child=partial(_each, Metrics.start),
)
