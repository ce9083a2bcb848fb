"""The end of the exporters: everything is sent, or the time that the user gave is over.

Decides how long an end may take. The SDK's own shutdown blocks for 20 s and more while a collector is down,
so it runs in threads that nobody has to wait for. They are started beforehand: while Python ends, none can
be started.
"""

from __future__ import annotations

import atexit
import logging
import math
import threading
import time
from typing import TYPE_CHECKING, Self

from opentelemetry.sdk._logs import LoggerProvider

from glasscache.errors import ConfigurationError
from glasscache_exporters import _forks
from glasscache_exporters._events import listen
from glasscache_exporters._port import MetricsServer, serve_metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider

_logger = logging.getLogger("glasscache")


def check_bound(shutdown_timeout: float) -> None:
    """ConfigurationError unless it is a bound."""
    if not 0 < shutdown_timeout < math.inf:
        raise ConfigurationError(f"shutdown_timeout={shutdown_timeout!r}: give a finite number of seconds above 0")


class _Closer:
    """A thread that waits to run one signal's shutdown."""

    def __init__(self, signal: str, shut_down: Callable[[], None]) -> None:
        self.signal = signal
        self.succeeded = False
        self._shut_down = shut_down
        self.start()

    def start(self) -> None:
        """Begin to wait; also anew in the child of a fork, where the parent's thread does not exist."""
        self._asked = threading.Event()
        self._done = threading.Event()
        threading.Thread(target=self._run, name=f"glasscache-close-{self.signal}", daemon=True).start()

    def ask(self) -> None:
        """Let the thread run the shutdown now."""
        self._asked.set()

    def wait(self, seconds: float) -> bool:
        """Whether the shutdown ended within this time."""
        return self._done.wait(max(seconds, 0.0))

    def _run(self) -> None:
        self._asked.wait()
        try:
            self._shut_down()
            self.succeeded = True
        except Exception:
            _logger.exception("the last %s may not have been sent", self.signal)
        finally:
            self._done.set()


class Exporters:
    """The running exporters. End them with `shutdown()`, or use them as a context manager; exit does it too.

    A process that ends by a signal has no exit: uvicorn raises its SIGTERM again. There, call `shutdown()` at
    the end of the app's lifespan, by `asyncio.to_thread`.

    In the child of a fork (gunicorn's --preload) they go on with connections, figures and a `service.instance.id`
    of their own; gRPC itself does not survive a fork reliably: call `configure()` in the worker (gunicorn's
    `post_fork`), or use http/protobuf.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider,
        meter_provider: MeterProvider,
        logger_provider: LoggerProvider | None = None,
        shutdown_timeout: float,
    ) -> None:
        self.tracer_provider = tracer_provider
        self.meter_provider = meter_provider
        self.logger_provider: LoggerProvider = logger_provider or LoggerProvider(shutdown_on_exit=False)
        self.metrics_server: MetricsServer | None = None
        self._listening: list[tuple[logging.Logger, logging.Handler]] = []
        self._timeout = shutdown_timeout
        self._closers = [
            _Closer("traces", tracer_provider.shutdown),
            _Closer("metrics", meter_provider.shutdown),
            _Closer("logs", self.logger_provider.shutdown),
        ]
        self._complete: bool | None = None
        atexit.register(self.shutdown)
        _forks.tell(self)

    def listen(self, loggers: Sequence[str] = (), *, are_printed: bool = False) -> None:
        """Send the events of our logger, and all that `loggers` say (`are_printed`: to a terminal); see `configure`."""
        self._listening += listen(self.logger_provider, loggers, are_printed=are_printed)

    def serve(self, port: int, *, host: str, token: str | None) -> None:
        """Open the page for Prometheus; see `serve_metrics`."""
        self.metrics_server = serve_metrics(port, host=host, token=token, provider=self.meter_provider)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def shutdown(self, timeout: float | None = None) -> bool:
        """Send what is left and stop; True if that ended in time and without an error.

        Takes at most `timeout` seconds (default: the `shutdown_timeout` of `configure()`), whatever the
        collector does; a server that must not stand still meanwhile calls it by `asyncio.to_thread`. Called
        again, it only repeats its first answer. Never raises.
        """
        if self._complete is None:
            self._complete = self._close(self._timeout if timeout is None else timeout)
            atexit.unregister(self.shutdown)
            _forks.forget(self)
        return self._complete

    def _close(self, timeout: float) -> bool:
        for logger, handler in self._listening:
            logger.removeHandler(handler)
        if self.metrics_server is not None:
            self.metrics_server.stop()
        for closer in self._closers:
            closer.ask()
        end = time.monotonic() + timeout
        late = [closer.signal for closer in self._closers if not closer.wait(end - time.monotonic())]
        if late:
            signals = " and ".join(filter(None, [", ".join(late[:-1]), late[-1]]))
            _logger.warning("gave up sending the last %s after %g s", signals, timeout)
        return not late and all(closer.succeeded for closer in self._closers)

    def in_child(self) -> None:
        """Wait for a shutdown in this process, too."""
        for closer in self._closers:
            closer.start()
