"""OTEL_CONFIG_FILE: what a file says is what is set up."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from pathlib import Path

import pytest

from glasscache.errors import ConfigurationError
from glasscache_exporters._config_file import from_file
from tests.support.otel_rig import in_a_process_of_its_own
from tests.support.otlp import http_receiver
from tests.telemetry.processes import Process, client_of, site

PAGE = Path(__file__).parents[2] / "docs" / "exporters.md"


def whole(endpoint: str) -> str:
    """The file that docs/exporters.md shows, for this collector."""
    (shown,) = re.findall(r"```yaml\n(file_format.*?)```", PAGE.read_text(), re.DOTALL)
    return str(shown).replace("http://localhost:4318", endpoint)


def write(folder: Path, text: str) -> Path:
    path = folder / "otel.yaml"
    path.write_text(text)
    return path


def test_all_signals_are_sent_where_the_file_says(tmp_path: Path) -> None:
    with http_receiver() as receiver:
        path = write(tmp_path, whole(receiver.endpoint))
        in_a_process_of_its_own(f"""
            os.environ.update(OTEL_CONFIG_FILE={str(path)!r}, OTEL_SERVICE_NAME="not asked")
            import logging
            from glasscache_exporters import configure, metrics_app
            with configure(shutdown_timeout=60.0):
                metrics_app()
                metrics.get_meter("test").create_counter("asked").add(1)
                with trace.get_tracer("test").start_as_current_span("question"):
                    logging.getLogger("glasscache").info("long", extra={{"event.name": "glasscache.happened"}})
        """)
        (span,) = receiver.spans()
        (record,) = receiver.logs()
        assert span.resource["service.name"] == record.resource["service.name"] == "knowledge"
        assert record.event_name == "glasscache.happened"
        assert receiver.metrics()["asked"].points[0].value == 1


def test_the_same_file_is_followed_under_opentelemetry_instrument(tmp_path: Path) -> None:
    async def scenario(process: Process) -> None:
        async with client_of(process) as client:
            await client.get("/ask?q=one")

    with http_receiver() as receiver:
        path = write(tmp_path, whole(receiver.endpoint))
        settings = {"OTEL_CONFIG_FILE": str(path), "SITE_SETUP": "none", "SITE_ORDER": "fastapi outside"}
        with site(tmp_path, settings, instrumented=True) as process:
            asyncio.run(scenario(process))
            receiver.wait_until(lambda got: any(span.name == "cache.load" for span in got.spans()))
            process.stop()
        (load,) = [span for span in receiver.spans() if span.name == "cache.load"]
        assert load.resource["service.name"] == "knowledge"


def test_a_signal_that_the_file_leaves_out_is_not_sent_and_an_end_is_an_end(tmp_path: Path) -> None:
    path = write(tmp_path, 'file_format: "1.0"')
    printed = in_a_process_of_its_own(f"""
        os.environ.update(OTEL_CONFIG_FILE={str(path)!r})
        import logging
        logging.basicConfig(stream=sys.stdout)
        from glasscache_exporters import configure
        exporters = configure()
        print(exporters.shutdown())
    """)
    warning, end = printed.splitlines()
    assert "names no propagator: nobody's trace is continued" in warning
    assert end == "True"


def test_a_collector_that_hangs_holds_up_the_end_no_longer_than_the_bound(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        text = whole(f"http://127.0.0.1:{server.getsockname()[1]}")
        path = write(tmp_path, text.replace("endpoint:", "timeout: 600000, endpoint:"))  # longer than any test may take
        printed = in_a_process_of_its_own(f"""
            os.environ.update(OTEL_CONFIG_FILE={str(path)!r})
            import logging
            logging.disable()
            from glasscache_exporters import configure
            exporters = configure(shutdown_timeout=0.3)
            trace.get_tracer("test").start_span("question").end()
            metrics.get_meter("test").create_counter("asked").add(1)
            print(exporters.shutdown())
        """)
    assert printed == "False\n"


@pytest.mark.parametrize(
    ("argument", "shown"), [({"service_name": "mine"}, "service_name='mine'"), ({"console": True}, "console=True")]
)
def test_an_argument_that_contradicts_the_file_is_refused(argument: dict[str, object], shown: str) -> None:
    settings: dict[str, object] = {"service_name": None, "console": False, "shutdown_timeout": 5.0} | argument
    with pytest.raises(ConfigurationError, match=rf"{shown} and OTEL_CONFIG_FILE='otel.yaml'.*Drop") as refused:
        from_file("otel.yaml", **settings)  # type: ignore[arg-type]
    assert "or the variable" in str(refused.value)


def test_a_file_that_cannot_work_is_named(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "none.yaml", "none"), (write(tmp_path, "file_format: 7"), "7")):
        with pytest.raises(ConfigurationError, match=f"OTEL_CONFIG_FILE='{path}': .*{why}"):
            from_file(str(path), service_name=None, console=False, shutdown_timeout=5.0)


def test_without_the_package_that_reads_it_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.configuration", None)
    with pytest.raises(ConfigurationError, match="pip install opentelemetry-configuration"):
        from_file("otel.yaml", service_name=None, console=False, shutdown_timeout=5.0)
