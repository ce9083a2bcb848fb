"""What loggers say, as log records at a real OTLP receiver."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, LogRecordExporter, SimpleLogRecordProcessor

from glasscache.errors import ConfigurationError
from glasscache.otel import names
from glasscache_exporters._events import listen
from glasscache_exporters._setup import build
from tests.support.otel_rig import Rig, in_a_process_of_its_own, load, run_load, wait
from tests.support.otlp import http_receiver
from tests.support.patience import PATIENCE

OURS = logging.getLogger("glasscache")
EVENT = {"event.name": "glasscache.happened"}


@pytest.fixture(autouse=True)
def _loggers_as_they_were() -> Iterator[None]:
    level = OURS.level
    yield
    OURS.setLevel(level)


@contextmanager
def heard(*loggers: str, exporter: LogRecordExporter | None = None) -> Iterator[InMemoryLogRecordExporter]:
    """Listen until the block ends."""
    kept: InMemoryLogRecordExporter = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter or kept))
    added = listen(provider, loggers)
    try:
        yield kept
    finally:
        for logger, handler in added:
            logger.removeHandler(handler)


def bodies(kept: InMemoryLogRecordExporter) -> list[object]:
    return [each.log_record.body for each in kept.get_finished_logs()]


def test_a_contention_arrives_with_its_name_its_attributes_and_its_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    with http_receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        with build(service_name="knowledge", shutdown_timeout=PATIENCE) as exporters:
            exporters.listen()
            holder = load(begun=1.0, ended=4.0)
            run_load(rig.telemetry, holder)
            with rig.tracer.start_as_current_span("GET /ask") as server, rig.telemetry.span(wait(holder, ended=13.0)):
                pass
    (record,) = receiver.logs()
    assert record.event_name == "glasscache.lock.contention"
    assert (record.severity, record.body) == ("WARN", "waited long for another request's load")
    assert record.trace_id == f"{server.get_span_context().trace_id:032x}"
    assert record.span_id
    assert record.resource["service.name"] == "knowledge"
    assert record.attributes["event.name"] == record.event_name
    assert record.attributes[names.GROUP] == "/ask"
    assert record.attributes[names.LOCK_WAIT] == pytest.approx(2.9)
    assert record.attributes[names.HOLDER_TRACE_ID]
    assert {name for name in record.attributes if not name.startswith(("cache.", "event."))} == set()


def test_of_our_logger_only_events_are_sent_and_of_others_nothing() -> None:
    with heard() as kept:
        OURS.warning("an event", extra=EVENT)
        OURS.error("not an event")
        logging.getLogger("myapp").error("another's", extra=EVENT)
    OURS.warning("too late", extra=EVENT)
    assert bodies(kept) == ["an event"]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (["myapp"], ["ours", "theirs", "below"]),
        (["myapp.below", "myapp"], ["ours", "theirs", "below"]),
        (["glasscache"], ["ours", "no event"]),
        ([""], ["ours", "no event", "theirs", "below"]),
        (["", "myapp", "glasscache"], ["ours", "no event", "theirs", "below"]),
    ],
)
def test_other_loggers_are_sent_if_asked_for_and_each_record_once(asked: list[str], expected: list[str]) -> None:
    with heard(*asked) as kept:
        OURS.warning("ours", extra=EVENT)
        OURS.warning("no event")
        logging.getLogger("myapp").warning("theirs")
        logging.getLogger("myapp.below").warning("%s", "below")
    assert bodies(kept) == expected


@pytest.mark.parametrize("loggers", ["myapp", [7]])
def test_loggers_that_are_no_names_are_refused(loggers: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="give a list of names"):
        listen(LoggerProvider(shutdown_on_exit=False), loggers)


@pytest.mark.parametrize(
    ("level", "text", "number"),
    [(10, "DEBUG", 5), (20, "INFO", 9), (30, "WARN", 13), (40, "ERROR", 17), (50, "FATAL", 21), (7, "Level 7", None)],
)
def test_levels_become_severities(level: int, text: str, number: int | None) -> None:
    logger = logging.getLogger("myapp")
    logger.setLevel(1)
    with heard("myapp") as kept:
        logger.log(level, "said")
    logger.setLevel(logging.NOTSET)
    (each,) = kept.get_finished_logs()
    severity = each.log_record.severity_number
    assert (each.log_record.severity_text, severity and severity.value) == (text, number)


def test_that_a_tier_answers_again_is_told_though_nobody_asked_for_info() -> None:
    OURS.setLevel(logging.NOTSET)
    with heard() as kept:
        OURS.info("a tier answers again", extra=EVENT)
    assert bodies(kept) == ["a tier answers again"]


def test_who_silenced_our_logger_is_obeyed() -> None:
    OURS.setLevel(logging.ERROR)
    with heard() as kept:
        OURS.warning("silenced", extra=EVENT)
    assert bodies(kept) == []


def test_an_error_is_told_by_its_type_message_and_traceback() -> None:
    with heard("myapp") as kept:
        try:
            raise ValueError("no answer")
        except ValueError:
            logging.getLogger("myapp").exception("it failed")
    (each,) = kept.get_finished_logs()
    attributes = dict(each.log_record.attributes or {})
    assert (attributes["exception.type"], attributes["exception.message"]) == ("ValueError", "no answer")
    assert "Traceback" in str(attributes["exception.stacktrace"])


def test_what_sending_says_is_not_sent() -> None:
    class Talkative(InMemoryLogRecordExporter):
        def export(self, batch):  # type: ignore[no-untyped-def]
            logging.getLogger("myapp").warning("sending")
            return super().export(batch)

    talkative: Talkative = Talkative()  # type: ignore[no-untyped-call]
    with heard("myapp", exporter=talkative):
        logging.getLogger("myapp").warning("said")
    assert bodies(talkative) == ["said"]


def test_a_record_that_cannot_be_sent_reaches_nobody_but_loggings_own_error_handler(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logger = logging.getLogger("myapp.alone")
    logger.propagate = False  # pytest's own handler is not so patient
    with heard("myapp.alone") as kept:
        logger.warning("%d", "not a number")
    assert bodies(kept) == []
    assert "--- Logging error ---" in capsys.readouterr().err


def test_to_listen_hides_nothing_from_a_terminal_that_would_have_shown_it() -> None:
    done = in_a_process_of_its_own("""
        import io, logging
        from opentelemetry.sdk._logs import LoggerProvider
        from glasscache_exporters._events import listen
        listen(LoggerProvider(shutdown_on_exit=False))
        sys.stderr = shown = io.StringIO()
        ours = logging.getLogger("glasscache")
        ours.warning("an event", extra={"event.name": "glasscache.happened"})
        ours.error("not an event")
        ours.info("no warning", extra={"event.name": "glasscache.happened"})
        print(shown.getvalue().splitlines())
        ours.propagate = False
        ours.warning("alone")
        logging.basicConfig(format="root: %(message)s")
        ours.propagate = True
        ours.error("heard by the root")
        print(shown.getvalue().splitlines()[2:])
    """)
    assert done.splitlines() == ["['an event', 'not an event']", "['alone', 'root: heard by the root']"]
