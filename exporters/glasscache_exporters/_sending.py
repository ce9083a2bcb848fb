"""Sending that survives a fork: exporters that each process makes anew, and metrics that are sent apart from the SDK.

Decides which process uses which connection, and that a fork finds nobody at work here. A child inherits its parent's
locks as they stand, and its sockets. The SDK's own reader holds a lock while it sends, and what sends imports modules:
the child of a fork at that moment would never send anything, and on a connection that both use each gets the other's
answers. So nothing here may hold a lock of the SDK while it sends, nor send through what another process has made. A
fork waits for what is under way, but not for a collector that hangs: who waits for its answer holds no lock.
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
_PAUSE = 1.0  # seconds that a fork waits at most; a collection and its sending take milliseconds


class _Own(Generic[E]):
    """What `make` makes, once for each process. It raises at once what `make` raises.

    Held `busy` by who works with it; a fork waits for that, and the child begins with a new one.
    """

    def __init__(self, make: Callable[[], E]) -> None:
        self._make = make
        self._made = make()
        self._process = os.getpid()
        self._is_paused = False
        self.busy = threading.Lock()
        _every.add(self)

    def __call__(self) -> E:
        if self._process != os.getpid():
            self._made = self._make()
            self._process = os.getpid()
        return self._made

    def pause(self) -> None:
        """A fork is about to happen."""
        self._is_paused = self.busy.acquire(timeout=_PAUSE)

    def go_on(self) -> None:
        """It has happened; this is the parent."""
        if self._is_paused:
            self.busy.release()

    def begin_anew(self) -> None:
        """It has happened; this is the child."""
        self.busy = threading.Lock()


class Spans(SpanExporter):
    """Sends spans by an exporter of this process's own."""

    def __init__(self, make: Callable[[], SpanExporter]) -> None:
        self._own = _Own(make)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send."""
        with self._own.busy:
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

    def start(self) -> None:
        """Begin; also anew, in the child of a fork, which has no thread but the one that forked."""
        self._parcel: Callable[[], object] | None = None  # a child must not send what its parent collected
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
            with self._own.busy:
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


_every: weakref.WeakSet[_Own[Any]] = weakref.WeakSet()
_running: weakref.WeakSet[Metrics] = weakref.WeakSet()


def _before_fork() -> None:
    for own in list(_every):
        own.pause()


def _in_parent() -> None:
    for own in list(_every):
        own.go_on()


def _in_child() -> None:
    for own in list(_every):
        own.begin_anew()
    for metrics in list(_running):
        metrics.start()


getattr(os, "register_at_fork", lambda **_: None)(  # Windows does not fork
    before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child
)
