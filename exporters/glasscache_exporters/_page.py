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
from opentelemetry.context import Context, attach, detach
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader

from glasscache.errors import ConfigurationError
from glasscache.stats import declared_workers
from glasscache_exporters import _forks
from glasscache_exporters._families import Exemplars, Family, Sample, families
from glasscache_exporters._text import OPENMETRICS, PLAIN, openmetrics, plain, wants_gzip, wants_openmetrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.sdk.metrics.export import MetricsData

_logger = logging.getLogger("glasscache")
_PATIENCE = 5.0  # seconds that a child may need until its reader begins anew; it needs milliseconds


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
    """The page of one provider, of which there is one only: get it by `Page.of`."""

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
        self._busy = _forks.Busy()
        self._is_known = threading.Event()  # to the provider
        provider.add_metric_reader(self._reader)
        self._is_known.set()
        _forks.tell(self)

    def families(self, *, scope_labels: bool = False) -> list[Family]:
        """Collect now. Raises what the SDK raises, such as an instrument's callback."""
        if not self._is_known.wait(_PATIENCE):
            raise TimeoutError("a lock of OpenTelemetry's SDK was held when this process was forked")
        outside = attach(Context())  # the span of the scrape is nobody's exemplar
        try:
            with self._busy:
                self._reader.data = None
                self._reader.collect()
                found = families(self._reader.data, self._exemplars, scope_labels=scope_labels)
        finally:
            detach(outside)
        return [_whose(), *found]

    def answer(self, headers: Mapping[str, str], *, scope_labels: bool = False) -> Answer:
        """Answer a GET; names of headers in lower case. Never raises: what fails is logged, and answered by a 500."""
        try:
            return self._answer(headers, self.families(scope_labels=scope_labels))
        except Exception:
            _logger.exception("metrics could not be collected")
            body = b"metrics could not be collected; the log says why\n"
            return Answer(500, {"content-type": "text/plain; charset=utf-8", "content-length": str(len(body))}, body)

    def _answer(self, headers: Mapping[str, str], found: list[Family]) -> Answer:
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

    def in_child(self) -> None:
        """Forget what the parent has measured."""
        self._exemplars = Exemplars()
        self._is_known = threading.Event()
        threading.Thread(target=self._read_anew, name="glasscache-metrics-page", daemon=True).start()

    def _read_anew(self) -> None:
        _forks.read_anew(self._provider(), self._reader)
        self._is_known.set()


def _whose() -> Family:
    of = declared_workers()
    labels = {"worker": str(os.getpid())} | ({} if of is None else {"of": str(of)})
    whose = Family("glasscache_worker", "info", "", "The one process that this page is about, and of how many.")
    whose.samples.append(Sample("_info", tuple(labels.items()), 1))
    return whose


_pages: weakref.WeakKeyDictionary[MeterProvider, Page] = weakref.WeakKeyDictionary()
