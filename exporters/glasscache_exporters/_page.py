"""The page of one process: what a meter provider knows, collected when somebody asks, as Prometheus reads it.

Decides when the SDK is asked, and that the page says whose it is (`glasscache_worker_info`): it answers for this
process alone. There is one reader for each provider, however many endpoints show it: every reader costs at each
measurement. In the child of a fork it begins with nothing, since the parent goes on telling what it has counted.
"""

from __future__ import annotations

import gzip
import logging
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader

from glasscache.errors import ConfigurationError
from glasscache.stats import declared_workers
from glasscache_exporters._families import Exemplars, Family, Sample, families
from glasscache_exporters._text import OPENMETRICS, PLAIN, openmetrics, plain, wants_gzip, wants_openmetrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.sdk.metrics.export import MetricsData

_logger = logging.getLogger("glasscache")
_PAUSE = 1.0  # seconds that a fork waits for a collection, which takes milliseconds


class Answer(NamedTuple):
    """An answer to a GET; names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class _Reader(MetricReader):
    """Keeps what the SDK hands out, cumulative and with explicit buckets unless a View says otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.data: MetricsData | None = None

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any) -> None:
        self.data = metrics_data

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        """Nothing is held; the last page can still be read."""


class Page:
    """Get it by `Page.of`."""

    @classmethod
    def of(cls, provider: metrics.MeterProvider | None) -> Page:
        """The page of this provider, made on first use; None: the global one. ConfigurationError if it is no SDK's."""
        chosen = metrics.get_meter_provider() if provider is None else provider
        if not isinstance(chosen, MeterProvider):
            raise ConfigurationError(
                f"there are no metrics to show: the meter provider is {type(chosen).__qualname__}. Set OpenTelemetry's "
                "SDK up first (glasscache_exporters.configure(), opentelemetry-instrument or your own), or hand in "
                "your provider"
            )
        found = _pages.get(chosen)
        if found is None:
            found = _pages[chosen] = cls(chosen)
        return found

    def __init__(self, provider: MeterProvider) -> None:
        self._provider = weakref.ref(provider)
        self._reader = _Reader()
        self._exemplars = Exemplars()
        self._busy = threading.Lock()
        self._is_paused = False
        provider.add_metric_reader(self._reader)

    def families(self, *, scope_labels: bool = False) -> list[Family]:
        """Collect now. Raises what the SDK raises, such as an instrument's callback."""
        with self._busy:
            self._reader.data = None
            self._reader.collect()
            found = families(self._reader.data, self._exemplars, scope_labels=scope_labels)
        return [_whose(), *found]

    def answer(self, headers: Mapping[str, str], *, scope_labels: bool = False) -> Answer:
        """Answer a GET; names of headers in lower case. Never raises: what fails is logged, and answered by a 500."""
        try:
            found = self.families(scope_labels=scope_labels)
        except Exception:
            _logger.exception("metrics could not be collected")
            body = b"metrics could not be collected; the log says why\n"
            return Answer(500, {"content-type": "text/plain; charset=utf-8", "content-length": str(len(body))}, body)
        is_open = wants_openmetrics(headers.get("accept", ""))
        body = (openmetrics if is_open else plain)(found).encode(errors="replace")
        about = {
            "content-type": OPENMETRICS if is_open else PLAIN,
            "cache-control": "no-store",
            "vary": "accept, accept-encoding",
        }
        if wants_gzip(headers.get("accept-encoding", "")):
            body = gzip.compress(body, compresslevel=5, mtime=0)
            about["content-encoding"] = "gzip"
        return Answer(200, about | {"content-length": str(len(body))}, body)

    def pause(self) -> None:
        """A fork is about to happen: wait for a collection under way, which holds locks of the SDK."""
        self._is_paused = self._busy.acquire(timeout=_PAUSE)

    def go_on(self) -> None:
        """It has happened; this is the parent."""
        if self._is_paused:
            self._busy.release()

    def begin_anew(self) -> None:
        """It has happened; this is the child: forget what the parent has measured.

        In a thread, since another reader's collection may have left a lock of the SDK locked for ever.
        """
        self._busy = threading.Lock()
        self._busy.acquire()  # nobody collects before that
        self._exemplars = Exemplars()
        threading.Thread(target=self._register_anew, name="glasscache-metrics-anew", daemon=True).start()

    def _register_anew(self) -> None:
        provider = self._provider()
        try:
            if provider is not None:
                provider.remove_metric_reader(self._reader)
                provider.add_metric_reader(self._reader)
        finally:
            self._busy.release()


def _whose() -> Family:
    of = declared_workers()
    labels = {"worker": str(os.getpid())} | ({} if of is None else {"of": str(of)})
    whose = Family("glasscache_worker", "info", "", "The one process that this page is about, and of how many.")
    whose.samples.append(Sample("_info", tuple(labels.items()), 1))
    return whose


_pages: weakref.WeakKeyDictionary[MeterProvider, Page] = weakref.WeakKeyDictionary()


def _before_fork() -> None:
    for page in list(_pages.values()):
        page.pause()


def _in_parent() -> None:
    for page in list(_pages.values()):
        page.go_on()


def _in_child() -> None:
    for page in list(_pages.values()):
        page.begin_anew()


getattr(os, "register_at_fork", lambda **_: None)(  # Windows does not fork
    before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child
)
