"""Real OTLP receivers: what an exporter sends over gRPC or HTTP is decoded here as a collector would.

Decides: the two ways in (gRPC; HTTP with binary protobuf, plain, gzip or deflate) and how a test waits for data.
Never: polls or sleeps. A waiter is woken by the request it waits for. What the data means: `tests.support.otlp_model`.

    with grpc_receiver() as receiver:
        configure(endpoint=receiver.endpoint)
        ...
        receiver.wait_until(lambda r: any(span.name == "cache.load" for span in r.spans()))
"""

from __future__ import annotations

import gzip
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb2

from tests.support.otlp_model import Log, Metric, Span, logs_of, metrics_of, spans_of
from tests.support.patience import PATIENCE

_PROTO = "opentelemetry.proto.collector"
# HTTP path -> (gRPC service, request, response): the whole of OTLP
_SERVICES: dict[str, tuple[str, type[Message], type[Message]]] = {
    "/v1/traces": (
        f"{_PROTO}.trace.v1.TraceService",
        trace_pb2.ExportTraceServiceRequest,
        trace_pb2.ExportTraceServiceResponse,
    ),
    "/v1/metrics": (
        f"{_PROTO}.metrics.v1.MetricsService",
        metrics_pb2.ExportMetricsServiceRequest,
        metrics_pb2.ExportMetricsServiceResponse,
    ),
    "/v1/logs": (
        f"{_PROTO}.logs.v1.LogsService",
        logs_pb2.ExportLogsServiceRequest,
        logs_pb2.ExportLogsServiceResponse,
    ),
}
_DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "identity": bytes,
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
}


class Receiver:
    """Collects export requests, from any thread. `endpoint` is what OTEL_EXPORTER_OTLP_ENDPOINT takes."""

    def __init__(self) -> None:
        self.endpoint = ""
        self._arrival = threading.Condition()
        self._requests: list[Message] = []

    def accept(self, request: Message) -> None:
        """Keep a decoded request and wake whoever waits for it."""
        with self._arrival:
            self._requests.append(request)
            self._arrival.notify_all()

    def requests(self) -> list[Message]:
        """Return every request so far, as decoded."""
        with self._arrival:
            return list(self._requests)

    def spans(self) -> list[Span]:
        """Return every span so far, in order of arrival."""
        return spans_of(self.requests())

    def metrics(self) -> dict[str, Metric]:
        """Return the metrics by name; of a cumulative series its latest point, of a delta series all."""
        return metrics_of(self.requests())

    def logs(self) -> list[Log]:
        """Return every log record so far, in order of arrival."""
        return logs_of(self.requests())

    def wait_until(self, predicate: Callable[[Receiver], bool], timeout: float = PATIENCE) -> None:
        """Wait until `predicate(self)` holds, looking again at each arrival. Raises `TimeoutError` after `timeout`
        seconds, and whatever the predicate raises."""
        with self._arrival:
            if not self._arrival.wait_for(lambda: predicate(self), timeout):
                names = sorted({span.name for span in self.spans()} | set(self.metrics()))
                raise TimeoutError(f"not within {timeout} s; {len(self._requests)} requests brought {names}")


@contextmanager
def grpc_receiver() -> Iterator[Receiver]:
    """Run a gRPC receiver on a free port of 127.0.0.1 while the block runs (insecure: exporters need `insecure`)."""
    receiver = Receiver()
    with ThreadPoolExecutor(max_workers=4, thread_name_prefix="otlp grpc") as pool:
        server = grpc.server(pool)
        for service, request, response in _SERVICES.values():
            handler = grpc.unary_unary_rpc_method_handler(
                _export(receiver, response),
                request_deserializer=request.FromString,
                response_serializer=response.SerializeToString,
            )
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": handler}),))
        receiver.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield receiver
        finally:
            server.stop(grace=1).wait()


def _export(receiver: Receiver, response: type[Message]) -> Callable[[Message, Any], Message]:
    def export(request: Message, _: Any) -> Message:
        receiver.accept(request)
        return response()

    return export


@contextmanager
def http_receiver() -> Iterator[Receiver]:
    """Run an HTTP receiver on a free port of 127.0.0.1 while the block runs."""
    receiver = Receiver()

    class Handler(_Handler):
        accept = staticmethod(receiver.accept)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = False  # so that closing waits for requests in hand
        receiver.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="otlp http")
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    """Answers as OTLP/HTTP asks: 404 for another path, 415 for another encoding, 400 for bytes that do not decode."""

    accept: Callable[[Message], None]
    timeout = PATIENCE

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        decode = _DECODERS.get(self.headers.get("Content-Encoding", "identity"))
        if self.path not in _SERVICES:
            self._answer(404)
        elif decode is None or self.headers.get("Content-Type") != "application/x-protobuf":
            self._answer(415)
        else:
            _, request, response = _SERVICES[self.path]
            try:
                message = request.FromString(decode(body))
            except (DecodeError, OSError, EOFError, zlib.error):
                self._answer(400)
                return
            self.accept(message)
            self._answer(200, response().SerializeToString())

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Say nothing: the test tells."""
