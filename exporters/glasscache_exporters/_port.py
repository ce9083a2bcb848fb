"""`serve_metrics()`: the page of metrics on a port of its own, one for each worker.

Decides which port a worker takes: the first that is free from a given one on, so that Prometheus finds all workers
whatever server started them, and a new worker takes the place of one that died. Runs in threads of its own: the page
still comes while the event loop hangs. Must never hold up a request or the end of a process, nor have more than a few
clients at once.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from glasscache.errors import ConfigurationError
from glasscache.stats import declared_workers
from glasscache_exporters import _forks
from glasscache_exporters._endpoint import Endpoint

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

_logger = logging.getLogger("glasscache")
_MOST_WORKERS = 64  # ports that are tried where nobody says how many workers there are
_MOST_CLIENTS = 8
_AGAIN = 1.0  # seconds until the next try, while no port is free
_BINDING = _forks.Busy()  # with whoever opens a port: a child must not inherit one that nobody knows of


def serve_metrics(
    port: int,
    *,
    host: str = "127.0.0.1",
    provider: MeterProvider | None = None,
    token: str | None = None,
    scope_labels: bool = False,
) -> MetricsServer:
    """Answer with the metrics of this process on the first port that is free from `port` on; call it in each worker.

    With WEB_CONCURRENCY=4 the workers share ports `port` to `port + 3`, and one that finds none of them free waits for
    it; without, 64 ports are tried. `configure()` does it by itself if GLASSCACHE_METRICS_PORT is set, with
    GLASSCACHE_METRICS_HOST and GLASSCACHE_METRICS_TOKEN. `host`: this machine alone can connect, unless you give
    another address, such as "0.0.0.0". The rest is as for `metrics_app`. Raises `ConfigurationError` for a port or a
    host that cannot be, and if no SDK is set up.
    """
    last = port + (declared_workers() or _MOST_WORKERS) - 1
    if not 0 < port <= last < 65_536:
        raise ConfigurationError(f"port={port!r}: give a number from 1 to {65_535 - last + port}, one port per worker")
    endpoint = Endpoint(provider, token, scope_labels=scope_labels)
    try:
        return MetricsServer(endpoint, host, range(port, last + 1))
    except OSError as error:
        raise ConfigurationError(
            f"host={host!r}, port={port!r}: {error}; give an address of this machine, such as 0.0.0.0, and a port that "
            "this user may open"
        ) from error


class MetricsServer:
    """What `serve_metrics` returns. `close()` ends it, as does the end of the process. A context manager, too."""

    def __init__(self, endpoint: Endpoint, host: str, ports: range) -> None:
        self._endpoint = endpoint
        self._host = host
        self._ports = ports
        self._ports_of_children = range(ports.start, ports.stop + 1)
        self._server: _Server | None = None
        why = self._open()
        if why is not None and why.errno != errno.EADDRINUSE:
            raise why
        self._start()
        _forks.tell(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def port(self) -> int | None:
        """The port that this process has taken; None as long as none is free."""
        return None if self._server is None else self._server.server_port

    def close(self) -> None:
        """Answer no more and let the port go; waits for that, at most half a second."""
        self.stop()
        self._thread.join()

    def stop(self) -> None:
        """As `close`, without waiting."""
        self._closed.set()
        _forks.forget(self)

    def _open(self) -> OSError | None:
        """Take the first port that is free; what was in the way, if it could not."""
        why: OSError | None = None
        with _BINDING:
            for port in self._ports:
                try:
                    self._server = _Server(self._host, port, self._endpoint)
                    return None
                except OSError as error:
                    why = error
        return why

    def _start(self) -> None:
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="glasscache-metrics-port", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        pause = 0.0
        while self._server is None and not self._closed.wait(pause):
            why = self._open()
            if why is not None and not pause:
                about = (self._ports[0], self._ports[-1], os.getpid(), why)
                _logger.warning("no port from %d to %d can be opened for the metrics of process %d: %s", *about)
            pause = _AGAIN
        if self._server is not None:
            _logger.info("metrics of process %d are on port %d", os.getpid(), self._server.server_port)
            with self._server as server:
                while not self._closed.is_set():
                    server.handle_request()

    def in_child(self) -> None:
        """Take a port of its own; one more than there are workers, since their parent has one, too."""
        if self._server is not None:
            self._server.socket.close()
        self._server = None
        self._ports = self._ports_of_children
        self._start()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_port = False  # a port belongs to one worker
    timeout = 0.5  # seconds until `close` is seen

    def __init__(self, host: str, port: int, endpoint: Endpoint) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.endpoint = endpoint
        self._room = threading.BoundedSemaphore(_MOST_CLIENTS)
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Without asking DNS for the name of this machine."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread, as long as there are not too many."""
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer in the thread that `process_request` has started, then make room for another client."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nobody's concern."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 5  # seconds that a client may be silent

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.endpoint.answer(self.command, headers)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    do_HEAD = do_POST = do_GET  # noqa: N815 - the names are the base class's

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Log nothing: a scrape is no news."""
