"""Sending that survives a fork: exporters that each process makes anew, and metrics that are sent apart from the SDK.

Decides which process uses which connection. On a connection that parent and child both use, each gets the other's
answers; and the SDK's own reader holds a lock while it sends, and what sends imports modules: the child of a fork at
that moment would never send anything. So nothing here may hold a lock of the SDK while it sends, nor send through what
another process has made.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, Context, attach, detach, set_value
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics.export import MetricExporter, MetricReader
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from glasscache_exporters import _forks

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricsData

E = TypeVar("E")
Item_contra = TypeVar("Item_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)
_logger = logging.getLogger("glasscache")


class _Exporter(Protocol[Item_contra, Result_co]):
    """What the SDK's exporters of spans and of log records have in common."""

    def export(self, batch: Sequence[Item_contra], /) -> Result_co: ...

    def shutdown(self) -> None: ...

    def force_flush(self, timeout_millis: int = 30_000) -> bool: ...


class _Own(Generic[E]):
    """What `make` makes, once for each process. It raises at once what `make` raises.

    Held `busy` by who works with it; a fork waits for that.
    """

    def __init__(self, make: Callable[[], E]) -> None:
        self._make = make
        self._made = make()
        self._process = os.getpid()
        self.busy = _forks.Busy()

    def __call__(self) -> E:
        if self._process != os.getpid():
            self._made = self._make()
            self._process = os.getpid()
        return self._made


class _Sending(Generic[Item_contra, Result_co]):
    """Sends by an exporter of this process's own."""

    def __init__(self, make: Callable[[], _Exporter[Item_contra, Result_co]]) -> None:
        self._own = _Own(make)

    def export(self, batch: Sequence[Item_contra], /) -> Result_co:
        """Send a batch."""
        with self._own.busy:
            return self._own().export(batch)

    def shutdown(self) -> None:
        """Send what is left, and close the connection."""
        self._own().shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what the exporter holds."""
        return self._own().force_flush(timeout_millis)


class Spans(_Sending[ReadableSpan, SpanExportResult], SpanExporter):
    """Sends spans, from whichever process it finds itself in."""


class Logs(_Sending[ReadableLogRecord, LogRecordExportResult], LogRecordExporter):
    """Sends log records, from whichever process it finds itself in."""


class Metrics(MetricReader):
    """Collects and sends metrics every `interval` seconds, also in the child of a fork; `timeout` seconds each.

    It belongs into a MeterProvider, whose shutdown collects and sends once more; then `start` it.
    """

    def __init__(self, make: Callable[[], MetricExporter], *, interval: float, timeout: float) -> None:
        self._own = own = _Own(make)
        super().__init__(own()._preferred_temporality, own()._preferred_aggregation)  # it is what a reader reads
        self._interval = interval
        self._timeout_millis = timeout * 1_000

    def start(self, provider: MeterProvider) -> None:
        """Collect and send regularly from now on, what this provider has measured."""
        self._provider = weakref.ref(provider)
        self._run(self._send_regularly)
        _forks.tell(self)

    def in_child(self) -> None:
        """Begin anew; what was measured since the fork, some milliseconds ago, is not told."""
        self._run(self._read_anew)

    def _run(self, work: Callable[[], None]) -> None:
        self._data: MetricsData | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=work, name="glasscache-metrics", daemon=True)
        self._thread.start()

    def _read_anew(self) -> None:
        _forks.read_anew(self._provider(), self)
        self._send_regularly()

    def _send_regularly(self) -> None:
        while not self._stopped.wait(self._interval):
            self._try_to_send()
        self._try_to_send()

    def _try_to_send(self) -> None:
        try:
            self.force_flush(self._timeout_millis)
        except Exception:
            _logger.exception("metrics were not sent; the next try is in %g s", self._interval)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Collect and send now. Raises what collecting or sending raises."""
        silent = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True, Context()))  # in no trace, and not to be traced
        try:
            with self._own.busy:
                self.collect(timeout_millis)
                data, self._data = self._data, None
                if data is not None:
                    self._own().export(data, timeout_millis=timeout_millis)
        finally:
            detach(silent)
        return True

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any) -> None:
        self._data = metrics_data  # sent when the SDK has let its locks go

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        """Collect and send a last time, then no more."""
        if self._thread is threading.current_thread():  # the provider lets go of it and takes it again
            return
        self._stopped.set()
        self._thread.join(timeout_millis / 1_000)
        _forks.forget(self)
        self._own().shutdown(timeout_millis)
