"""Prometheus' page on a port of its own, one for each worker."""

from __future__ import annotations

import logging
import socket
import time
from contextlib import ExitStack

import httpx
import pytest
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider

from glasscache.errors import ConfigurationError
from glasscache_exporters import MetricsServer, _port, serve_metrics
from tests.support.otel_rig import in_a_process_of_its_own
from tests.support.patience import PATIENCE
from tests.support.ports import free_ports

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture(autouse=True)
def _workers_that_nobody_has_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)


@pytest.fixture
def provider() -> MeterProvider:
    made = MeterProvider(shutdown_on_exit=False)
    made.get_meter("test").create_observable_counter("asked", [lambda _: [Observation(7)]])
    return made


def get(server: MetricsServer, path: str = "/metrics", **headers: str) -> httpx.Response:
    with httpx.Client(trust_env=False, timeout=PATIENCE) as client:
        return client.get(f"http://127.0.0.1:{server.port}{path}", headers=headers)


def until_open(server: MetricsServer) -> int:
    deadline = time.monotonic() + PATIENCE
    while server.port is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return server.port


def test_the_page_is_on_its_port_until_it_is_closed(provider: MeterProvider) -> None:
    with free_ports(2) as port, serve_metrics(port, provider=provider) as server:
        assert server.port == port
        answer = get(server, accept="application/openmetrics-text", **{"accept-encoding": "gzip"})
        assert answer.status_code == 200
        assert "asked_total 7\n" in answer.text
        assert answer.text.endswith("# EOF\n")
        assert answer.headers["content-encoding"] == "gzip"
        with httpx.Client(trust_env=False, timeout=PATIENCE) as client:
            url = f"http://127.0.0.1:{port}/metrics"
            assert (client.head(url).status_code, client.head(url).text) == (200, "")
            assert client.post(url).status_code == 405
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False)


def test_with_a_token_only_who_has_it_gets_the_page(provider: MeterProvider) -> None:
    with free_ports(2) as port, serve_metrics(port, provider=provider, token="sesame", scope_labels=True) as server:
        assert get(server).status_code == 401
        assert 'asked_total{otel_scope_name="test"} 7' in get(server, authorization="Bearer sesame").text


def test_each_worker_takes_the_first_port_that_is_free_and_one_too_many_waits_for_it(
    provider: MeterProvider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "2")
    monkeypatch.setattr(_port, "_AGAIN", 0.01)
    caplog.set_level(logging.INFO, "glasscache")
    with free_ports(2) as port, ExitStack() as stack:
        servers = [stack.enter_context(serve_metrics(port, provider=provider)) for _ in range(3)]
        assert [server.port for server in servers] == [port, port + 1, None]
        assert 'of="2"' in get(servers[1]).text
        servers[0].close()
        assert until_open(servers[2]) == port
    assert f"no port from {port} to {port + 1} can be opened for the metrics of process" in caplog.text
    assert f"are on port {port + 1}" in caplog.text


def test_one_that_waits_for_a_port_can_be_closed(provider: MeterProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "1")
    with socket.create_server(("127.0.0.1", 0)) as taken, ExitStack() as stack:
        server = stack.enter_context(serve_metrics(taken.getsockname()[1], provider=provider))
        assert server.port is None


def test_a_client_that_says_nothing_keeps_nobody_waiting_and_too_many_are_sent_away(
    provider: MeterProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_port, "_MOST_CLIENTS", 2)
    with free_ports(2) as port, serve_metrics(port, provider=provider) as server, ExitStack() as stack:
        address = ("127.0.0.1", port)
        first = stack.enter_context(socket.create_connection(address, PATIENCE))
        assert get(server).status_code == 200
        first.shutdown(socket.SHUT_WR)  # and its thread ends
        assert first.recv(1) == b""
        silent = [stack.enter_context(socket.create_connection(address, PATIENCE)) for _ in range(3)]
        assert silent[2].recv(1) == b""  # sent away


def test_a_client_that_goes_away_is_nobodys_concern(
    provider: MeterProvider, capsys: pytest.CaptureFixture[str]
) -> None:
    with free_ports(2) as port, serve_metrics(port, provider=provider) as server:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
            client.sendall(b"GET /metrics HT")
        assert get(server).status_code == 200
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("port", "host"), [(0, "127.0.0.1"), (70_000, "127.0.0.1"), (65_530, "127.0.0.1")])
def test_a_port_that_cannot_be_is_refused(provider: MeterProvider, port: int, host: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"port={port}.*give a number"):
        serve_metrics(port, host=host, provider=provider)


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_a_host_that_is_not_this_one_is_refused(provider: MeterProvider, host: str) -> None:
    with pytest.raises(ConfigurationError, match=f"host='{host}'.*give an address of this machine"):
        serve_metrics(9_464, host=host, provider=provider)


def test_it_listens_on_an_address_of_ip_6_too(provider: MeterProvider) -> None:
    with free_ports(2) as port, serve_metrics(port, host="::1", provider=provider) as server:
        answer = httpx.get(f"http://[::1]:{server.port}/", trust_env=False, timeout=PATIENCE)
    assert answer.status_code == 200


def test_configure_opens_the_port_of_the_environment_and_each_child_takes_one_of_its_own() -> None:
    with free_ports(2) as port:
        printed = in_a_process_of_its_own(f"""
            os.environ.update(GLASSCACHE_METRICS_PORT="{port}", GLASSCACHE_METRICS_TOKEN="sesame", WEB_CONCURRENCY="1")
            for signal in ("TRACES", "METRICS", "LOGS"):
                os.environ[f"OTEL_{{signal}}_EXPORTER"] = "none"
            import httpx, re, time
            from glasscache_exporters import configure

            exporters = configure()
            metrics.get_meter("test").create_counter("asked").add(1)

            def show(who):
                answer = httpx.get(f"http://127.0.0.1:{{exporters.metrics_server.port}}/metrics", trust_env=False,
                                   timeout=60, headers={{"authorization": "Bearer sesame"}})
                print(who, exporters.metrics_server.port, f'worker="{{os.getpid()}}"' in answer.text,
                      re.findall("^asked_total .*", answer.text, re.M), flush=True)

            show("parent")
            child = os.fork()
            if child == 0:
                while exporters.metrics_server.port is None:
                    time.sleep(0.01)
                show("child")
            else:
                os.waitpid(child, 0)
                show("parent")
            exporters.shutdown()
        """)
    parent = f"parent {port} True ['asked_total 1']"
    assert printed.splitlines() == [parent, f"child {port + 1} True []", parent]


def test_a_child_whose_parent_found_no_port_takes_one() -> None:
    with free_ports(2) as port:
        printed = in_a_process_of_its_own(f"""
            os.environ["WEB_CONCURRENCY"] = "1"
            import logging, socket, time
            logging.disable()
            from opentelemetry.sdk.metrics import MeterProvider
            from glasscache_exporters import serve_metrics

            taken = socket.create_server(("127.0.0.1", {port}))
            server = serve_metrics({port}, provider=MeterProvider(shutdown_on_exit=False))
            child = os.fork()
            if child:
                os.waitpid(child, 0)
            while not child and server.port is None:
                time.sleep(0.01)
            print(server.port, flush=True)
            server.close()
        """)
    assert printed.splitlines() == [str(port + 1), "None"]


def test_what_the_environment_says_wrong_of_the_page_is_refused_and_can_be_mended() -> None:
    printed = in_a_process_of_its_own("""
        for signal in ("TRACES", "METRICS", "LOGS"):
            os.environ[f"OTEL_{signal}_EXPORTER"] = "none"
        from glasscache_exporters import configure
        for port in ("9464x", "0", "65500", None):
            os.environ.pop("GLASSCACHE_METRICS_PORT", None)
            if port is not None:
                os.environ["GLASSCACHE_METRICS_PORT"] = port
            try:
                print(configure().metrics_server)
            except Exception as error:
                print(error)
    """)
    assert printed.splitlines() == [
        "GLASSCACHE_METRICS_PORT='9464x': give a number from 1 to 65535, such as 9464",
        "GLASSCACHE_METRICS_PORT='0': give a number from 1 to 65535, such as 9464",
        "port=65500: give a number from 1 to 65472, one port per worker",
        "None",
    ]
