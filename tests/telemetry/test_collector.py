"""A collector that is down or hangs: no request waits for it, and the end of the server only as long as it may."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from tests.support.patience import PATIENCE
from tests.support.ports import free_port
from tests.telemetry.processes import Process, client_of, site

PROTOCOLS = ["grpc", "http/protobuf"]


class Hanging:
    """Takes connections and what is sent, and never answers. `holds` is set while it holds an export."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.holds = threading.Event()
        self._connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, name="hanging collector")

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            if connection.recv(1):
                self.holds.set()

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for connection in self._connections:
            connection.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def hanging() -> Iterator[Hanging]:
    with socket.create_server(("127.0.0.1", 0)) as listener, Hanging(listener) as collector:
        yield collector


def settings(protocol: str, port: int) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "600000",
        "OTEL_BSP_MAX_QUEUE_SIZE": "16",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4",
        "SITE_SHUTDOWN": "0.3",
        "SITE_ORDER": "asgi outside",
    }


def ask_much(process: Process) -> None:
    """More requests, with more spans, than the queue of the exporters holds."""

    async def scenario() -> None:
        async with client_of(process) as client:
            answers = [await client.get(f"/ask?q={number % 20}") for number in range(60)]
            crowd = await client.crowd("/slow?q=crowd", "crowd", [{}] * 4, waiting=1.5)  # long enough to be an event
        assert {answer.status_code for answer in (*answers, *crowd)} == {200}

    asyncio.run(scenario())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_requests_and_the_end_of_the_server_do_not_wait_for_a_collector_that_hangs(
    tmp_path: Path, protocol: str
) -> None:
    with hanging() as collector:
        port = collector.listener.getsockname()[1]
        with site(tmp_path, settings(protocol, port)) as process:
            asyncio.run(ask_once(process))
            assert collector.holds.wait(PATIENCE)
            ask_much(process)
            process.stop()
        assert "gave up sending the last traces, metrics and logs after 0.3 s" in process.said("stderr")
    # only here was the collector's end of any export closed: all of the above happened while it held one


async def ask_once(process: Process) -> None:
    async with client_of(process) as client:
        await client.get("/ask?q=first")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_requests_and_the_end_of_the_server_do_not_wait_for_a_collector_that_is_down(
    tmp_path: Path, protocol: str
) -> None:
    with free_port() as port, site(tmp_path, settings(protocol, port)) as process:
        ask_much(process)
        process.stop()
    assert "gave up sending the last" in process.said("stderr")
