"""The page of metrics, as Prometheus' own parsers read it."""

from __future__ import annotations

import asyncio
import gzip
import math
import os
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from opentelemetry.metrics import NoOpMeterProvider, Observation
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Metric as MetricOfSdk
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as read_plain
from prometheus_client.samples import Sample

from glasscache.errors import ConfigurationError
from glasscache.otel import METRICS
from glasscache_exporters import _families, _page, metrics_app
from glasscache_exporters._families import Exemplars, families
from glasscache_exporters._names import family_name, label_name, unit_of
from glasscache_exporters._page import Page
from glasscache_exporters._text import openmetrics
from tests.support.asgi import Client, Response
from tests.support.otel_rig import Rig, Source, drive_everything, in_a_process_of_its_own
from tests.support.patience import PATIENCE

PROMETHEUS = (  # what 2.42 sends
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
read_openmetrics: Callable[[str], Iterable[Metric]] = openmetrics_parser.text_string_to_metric_families


class Shown:
    """A provider of its own, and its page."""

    def __init__(self, **settings: Any) -> None:
        self.tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
        self.provider = MeterProvider(resource=Resource({}), shutdown_on_exit=False, **settings)
        self.app = metrics_app(self.provider)
        self.meter = self.provider.get_meter("test", "1.2")

    def page(self) -> dict[str, Metric]:
        return page(self.app)


def ask(app: Any, method: str = "GET", **headers: str) -> Response:
    async def scenario() -> Response:
        return await Client(app).request(
            method, "/metrics", headers={k.replace("_", "-"): v for k, v in headers.items()}
        )

    return asyncio.run(scenario())


def page(app: Any) -> dict[str, Metric]:
    """The families of the page in OpenMetrics, which must say the same in plain text."""
    answer = ask(app, accept=PROMETHEUS)
    assert answer.status == 200
    found = {family.name: family for family in read_openmetrics(answer.text)}
    plain = {sample[:3] for family in read_plain(ask(app).text) for sample in hashable(family.samples)}
    assert {sample[:3] for family in found.values() for sample in hashable(family.samples)} == plain
    return found


def hashable(samples: Iterable[Sample]) -> list[tuple[str, frozenset[tuple[str, str]], float | None]]:
    return [
        (each.name, frozenset(each.labels.items()), None if math.isnan(each.value) else each.value) for each in samples
    ]


def values(family: Metric) -> dict[str, float]:
    """Line without value -> value."""
    return {f"{each.name}{each.labels}".replace("'", ""): each.value for each in family.samples}


# --- what is shown ------------------------------------------------------------------------------------------


def test_every_metric_of_the_contract_is_there_under_its_prometheus_name() -> None:
    rig, source = Rig(), Source()
    app = metrics_app(rig.meters)
    drive_everything(rig, source)
    found = page(app)
    kinds = {"counter": "counter", "observable_counter": "counter", "histogram": "histogram"}
    for metric in METRICS:
        name = family_name(metric.name, unit_of(metric.unit), is_counter=False, is_ratio=False)
        assert found[name].type == kinds.get(metric.kind, "gauge"), name
        assert found[name].unit == {"s": "seconds", "By": "bytes"}.get(metric.unit, "")
        assert found[name].documentation == metric.description
        for bound in metric.buckets:
            assert any(float(each.labels.get("le", "nan")) == bound for each in found[name].samples), name
    (hits,) = [each for each in found["glasscache_requests"].samples if each.labels["cache_result"] == "hit"]
    assert hits.name == "glasscache_requests_total"
    assert hits.value == 5
    assert hits.labels == {
        "cache_name": "knowledge", "cache_result": "hit", "cache_tier": "memory", "cache_key_group": "/ask"
    }  # fmt: skip
    assert {each.name for each in found["glasscache_lock_wait_duration_seconds"].samples} == {
        "glasscache_lock_wait_duration_seconds_bucket",
        "glasscache_lock_wait_duration_seconds_count",
        "glasscache_lock_wait_duration_seconds_sum",
    }
    assert "glasscache_saved_time_seconds_total" in {
        each.name for each in found["glasscache_saved_time_seconds"].samples
    }


def test_the_exemplar_of_a_wait_leads_to_its_span() -> None:
    rig = Rig()
    app = metrics_app(rig.meters)
    drive_everything(rig, Source())
    wait = rig.span("cache.lock.wait").get_span_context()
    assert wait is not None
    (exemplar,) = [
        each.exemplar for each in page(app)["glasscache_lock_wait_duration_seconds"].samples if each.exemplar
    ]
    assert exemplar.labels == {"trace_id": f"{wait.trace_id:032x}", "span_id": f"{wait.span_id:016x}"}
    assert exemplar.value == pytest.approx(0.2)
    assert exemplar.timestamp is not None


def test_an_exemplar_stays_until_another_takes_its_place_in_the_bucket() -> None:
    shown = Shown()
    histogram = shown.meter.create_histogram("took", "s", explicit_bucket_boundaries_advisory=[1.0, 2.0])

    def exemplars() -> list[tuple[str, float]]:
        return [
            (each.labels["le"], each.exemplar.value) for each in shown.page()["took_seconds"].samples if each.exemplar
        ]

    with shown.tracer.start_as_current_span("first"):
        histogram.record(0.5)
    assert exemplars() == [("1.0", 0.5)]
    assert exemplars() == [("1.0", 0.5)]  # a second server that scrapes sees it, too
    with shown.tracer.start_as_current_span("second"):
        histogram.record(0.7)
        histogram.record(9.0)
    assert exemplars() == [("1.0", 0.7), ("+Inf", 9.0)]


def test_a_counter_shows_its_latest_exemplar() -> None:
    shown = Shown()
    counter = shown.meter.create_counter("asked")
    for amount in (1, 2):
        with shown.tracer.start_as_current_span("question"):
            counter.add(amount)
        (sample,) = shown.page()["asked"].samples
        assert sample.exemplar is not None
        assert sample.exemplar.value == amount


def test_the_span_of_the_scrape_is_nobodys_exemplar() -> None:
    shown = Shown()
    shown.meter.create_observable_counter("asked", [lambda _: [Observation(1)]])
    with shown.tracer.start_as_current_span("GET /metrics"):
        (sample,) = shown.page()["asked"].samples
    assert sample.exemplar is None


def test_exemplars_without_a_trace_lead_nowhere_and_are_left_out() -> None:
    shown = Shown(exemplar_filter=AlwaysOnExemplarFilter())
    shown.meter.create_counter("asked").add(1)
    (sample,) = shown.page()["asked"].samples
    assert sample.exemplar is None


@pytest.mark.parametrize(("question", "kept"), [("why?", True), ("y" * 128, False)])
def test_what_a_view_took_out_of_a_series_stays_on_its_exemplar_if_there_is_room(question: str, kept: bool) -> None:
    shown = Shown(views=[View(instrument_name="asked", attribute_keys={"a"})])
    with shown.tracer.start_as_current_span("question"):
        shown.meter.create_counter("asked").add(1, {"a": "1", "q": question})
    (sample,) = shown.page()["asked"].samples
    assert sample.labels == {"a": "1"}
    assert sample.exemplar is not None
    assert (sample.exemplar.labels.get("q") == question) is kept


def test_text_is_escaped_and_survives() -> None:
    shown = Shown()
    text = 'a "quoted" \\ back\\nslash\nand a line, {braces} # é 漢'
    shown.meter.create_counter("asked", description=text).add(1, {"q": text, "lone": "\ud800"})
    family = shown.page()["asked"]
    assert family.documentation == text
    assert family.samples[0].labels == {"q": text, "lone": "?"}
    (plain,) = [each for each in read_plain(ask(shown.app).text) if each.name == "asked"]
    assert plain.documentation == text


def test_attributes_that_are_no_text_are_written_as_json() -> None:
    shown = Shown()
    shown.meter.create_counter("asked").add(1, {"yes": True, "n": 3, "f": 0.5, "list": ("a", "b"), "le": "kept"})
    (sample,) = shown.page()["asked"].samples
    assert sample.labels == {"yes": "true", "n": "3", "f": "0.5", "list": '["a", "b"]', "le": "kept"}


def collected(*found: MetricOfSdk) -> dict[str, Metric]:
    """The page of a collection; the SDK of today lets in only what is finite, that of tomorrow perhaps more."""
    scope = ScopeMetrics(InstrumentationScope("test"), found, "")
    data = MetricsData([ResourceMetrics(Resource({}), [scope], "")])
    text = openmetrics(families(data, Exemplars()))
    return {family.name: family for family in read_openmetrics(text)}


def points(*pairs: tuple[float, str]) -> list[NumberDataPoint]:
    return [NumberDataPoint({"v": name}, 0, 0, value) for value, name in pairs]


def test_gauges_show_infinity_and_not_a_number_and_counters_leave_out_what_none_can_be() -> None:
    odd = points((math.inf, "inf"), (-math.inf, "-inf"), (math.nan, "nan"), (-1.5, "-1.5"))
    total = Sum(odd, AggregationTemporality.CUMULATIVE, is_monotonic=True)
    found = collected(MetricOfSdk("level", None, None, Gauge(odd)), MetricOfSdk("count", None, None, total))
    assert {each.labels["v"]: str(each.value) for each in found["level"].samples} == {
        "inf": "inf", "-inf": "-inf", "nan": "nan", "-1.5": "-1.5"
    }  # fmt: skip
    assert values(found["count"]) == {"count_total{v: inf}": math.inf}


@pytest.mark.parametrize(("bounds", "total"), [((-1.0, 1.0), 0.5), ((1.0,), math.nan), ((1.0,), -3.0)])
def test_a_histogram_of_negative_values_or_not_a_number_has_no_sum(bounds: tuple[float, ...], total: float) -> None:
    point = HistogramDataPoint({}, 0, 0, 1, total, [1, *[0] * len(bounds)], bounds, 0.0, 0.0)
    histogram = Histogram([point], AggregationTemporality.CUMULATIVE)
    found = collected(MetricOfSdk("odd", "", "", histogram))
    assert {each.name for each in found["odd"].samples} == {"odd_bucket"}
    assert [each.value for each in found["odd"].samples] == [1] * (len(bounds) + 1)


def test_an_exponential_histogram_becomes_a_classic_one_whose_bounds_never_move() -> None:
    shown = Shown(views=[View(instrument_name="*", aggregation=ExponentialBucketHistogramAggregation())])
    histogram = shown.meter.create_histogram("took", "s")

    def bounds() -> dict[float, float]:
        family = shown.page()["took_seconds"]
        assert values(family)["took_seconds_count{}"] == values(family)["took_seconds_bucket{le: +Inf}"]
        return {float(each.labels["le"]): each.value for each in family.samples if "le" in each.labels}

    with shown.tracer.start_as_current_span("question"):
        for value in (0.0, 1.0, 1.1, 1.5, 3.0):
            histogram.record(value)
    first = bounds()
    assert first == {0.0: 1, 1.0: 2, 2**0.5: 3, 2.0: 4, 2**1.5: 4, 4.0: 5, math.inf: 5}
    assert [each.labels["le"] for each in shown.page()["took_seconds"].samples if each.exemplar]
    histogram.record(1e300)
    histogram.record(1e-300)  # the SDK has to take a base beyond 4
    assert set(bounds()) - {0.0, math.inf} <= {2.0**power for power in range(-1_024, 1_024)}
    assert len(bounds()) < 200


@pytest.mark.parametrize("value", [1.7e308, 5e-324])
def test_the_ends_of_what_a_float_holds_are_in_a_bucket(value: float) -> None:
    shown = Shown(views=[View(instrument_name="*", aggregation=ExponentialBucketHistogramAggregation())])
    shown.meter.create_histogram("took").record(value)
    assert values(shown.page()["took"])["took_bucket{le: +Inf}"] == 1


def test_a_bound_is_written_as_everybody_writes_it() -> None:
    assert [_families._le(bound) for bound in (5e-05, 0.0005, 1, 86_400, 1e6, 1.5e6, 123_456_789, 1e16, math.inf)] == [
        "5e-05", "0.0005", "1.0", "86400.0", "1e+06", "1.5e+06", "1.23456789e+08", "1e+16", "+Inf"
    ]  # fmt: skip


def test_the_page_says_which_process_it_is_about_and_of_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown()
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    (whose,) = shown.page()["glasscache_worker"].samples
    assert (whose.name, whose.labels) == ("glasscache_worker_info", {"worker": str(os.getpid())})
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    (whose,) = shown.page()["glasscache_worker"].samples
    assert whose.labels == {"worker": str(os.getpid()), "of": "4"}


def test_the_resource_is_told_as_target_info() -> None:
    provider = MeterProvider(resource=Resource({"service.name": "knowledge", "le": 1}), shutdown_on_exit=False)
    app = metrics_app(provider)
    provider.get_meter("test").create_counter("asked").add(1)
    (target,) = page(app)["target"].samples
    assert (target.name, target.labels, target.value) == ("target_info", {"service_name": "knowledge", "le": "1"}, 1)


# --- names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "unit", "kind", "expected"),
    [
        ("http.server.duration", "ms", "histogram", "http_server_duration_milliseconds"),
        ("sent", "By/s", "gauge", "sent_bytes_per_second"),
        ("sent", "{packet}/min", "gauge", "sent_per_minute"),
        ("load", "1", "gauge", "load_ratio"),
        ("load_ratio", "1", "gauge", "load_ratio"),
        ("took_seconds", "s", "histogram", "took_seconds"),
        ("asked_total", "", "counter", "asked"),
        ("asked.total", "1", "counter", "asked"),
        ("_total", "", "counter", "total"),
        ("2xx.. -answers", "furlong", "counter", "_2xx_answers_furlong"),
        ("é", "", "counter", "_"),
    ],
)
def test_a_name_is_what_opentelemetry_says_for_prometheus(name: str, unit: str, kind: str, expected: str) -> None:
    found = family_name(name, unit_of(unit), is_counter=kind == "counter", is_ratio=kind == "gauge" and unit == "1")
    assert found == expected


@pytest.mark.parametrize(
    ("key", "expected"),
    [("a.b", "a_b"), ("__name__", "_name_"), ("2nd", "key_2nd"), ("é", "key__"), ("", "key_"), ("a--b", "a_b")],
)
def test_a_key_becomes_a_label_that_is_nobody_elses(key: str, expected: str) -> None:
    assert label_name(key) == expected


def test_keys_that_become_one_label_keep_both_values() -> None:
    shown = Shown()
    shown.meter.create_counter("asked").add(1, {"a.b": "x", "a_b": "y"})
    (sample,) = shown.page()["asked"].samples
    assert sample.labels == {"a_b": "x;y"}


def test_the_label_that_is_a_histograms_own_is_renamed() -> None:
    shown = Shown()
    shown.meter.create_histogram("took", explicit_bucket_boundaries_advisory=[]).record(1, {"le": "mine"})
    assert shown.page()["took"].samples[0].labels == {"exported_le": "mine", "le": "+Inf"}


def test_scopes_are_told_on_demand_and_where_two_of_them_share_a_name() -> None:
    shown = Shown()
    shown.meter.create_counter("asked").add(1)
    shown.meter.create_counter("mine").add(1)
    shown.provider.get_meter("other").create_counter("asked").add(2)
    found = shown.page()
    assert values(found["mine"]) == {"mine_total{}": 1}
    assert values(found["asked"]) == {
        "asked_total{otel_scope_name: test, otel_scope_version: 1.2}": 1,
        "asked_total{otel_scope_name: other}": 2,
    }
    told = page(metrics_app(shown.provider, scope_labels=True))
    assert values(told["mine"]) == {"mine_total{otel_scope_name: test, otel_scope_version: 1.2}": 1}


def test_a_name_that_is_taken_is_told_in_the_log_once_and_breaks_no_page(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_families, "_told", set())
    shown = Shown()
    shown.meter.create_histogram("took", explicit_bucket_boundaries_advisory=[]).record(1)
    shown.meter.create_up_down_counter("took.count").add(7)
    shown.meter.create_gauge("took.sum").set(7)
    shown.meter.create_counter("a.b").add(1)
    shown.meter.create_counter("a_b").add(2)
    shown.meter.create_gauge("a.b.").set(3)
    found = shown.page()
    assert {"took_count", "took_sum"}.isdisjoint(found)
    assert values(found["a_b"]) == {"a_b_total{}": 1}
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == len(set(told)) == 3
    assert "Prometheus does not see all of took_count: another metric has this name" in told[0]
    assert any("a_b: two of its series have the same labels" in each for each in told)


# --- how it is asked for ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "is_open"),
    [
        (PROMETHEUS, True),
        ("application/openmetrics-text", True),
        ('Application/OpenMetrics-Text; Version="1.0.0"; charset=utf-8', True),
        ("text/plain;q=0.5,application/openmetrics-text;q=0.5", True),
        ("", False),
        ("*/*", False),
        ("text/html,application/xhtml+xml,*/*;q=0.8", False),
        ("text/plain", False),
        ("text/plain,application/openmetrics-text;q=0.5", False),
        ("application/openmetrics-text;version=0.0.1", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=high", False),
        ("text/plain;version=1.0.0;q=1,application/openmetrics-text;q=0.5", True),
    ],
)
def test_the_format_is_the_one_that_the_client_prefers(accept: str, is_open: bool) -> None:
    answer = ask(Shown().app, accept=accept)
    kind = "application/openmetrics-text; version=1.0.0" if is_open else "text/plain; version=0.0.4"
    assert answer.header("content-type") == f"{kind}; charset=utf-8"
    assert answer.text.endswith("# EOF\n") is is_open
    assert answer.header("cache-control") == "no-store"
    assert answer.header("vary") == "accept, accept-encoding"


@pytest.mark.parametrize(
    ("said", "expected"), [("gzip", "gzip"), ("br, gzip;q=0.1", "gzip"), ("gzip;q=0", None), ("", None)]
)
def test_the_page_is_compressed_if_asked_for(said: str, expected: str | None) -> None:
    answer = ask(Shown().app, accept_encoding=said)
    assert answer.header("content-encoding") == expected
    body = gzip.decompress(answer.body) if expected else answer.body
    assert body.startswith(b"# HELP glasscache_worker_info")
    assert int(answer.header("content-length") or 0) == len(answer.body)


def test_a_head_has_no_body_and_another_method_is_refused() -> None:
    app = Shown().app
    assert (ask(app, "HEAD").status, ask(app, "HEAD").body) == (200, b"")
    refused = ask(app, "POST")
    assert (refused.status, refused.header("allow")) == (405, "GET, HEAD")


def test_with_a_token_only_who_has_it_gets_the_page() -> None:
    app = metrics_app(MeterProvider(shutdown_on_exit=False), token="open sesame")
    assert (ask(app).status, ask(app).header("www-authenticate"), ask(app).body) == (401, "Bearer", b"")
    assert ask(app, authorization="Bearer open Sesame").status == 401
    assert ask(app, authorization="Bearer open sesame").status == 200


def test_headers_that_come_twice_count_together() -> None:
    async def scenario() -> Response:
        twice = [("accept", "text/plain;q=0.2"), ("accept", "application/openmetrics-text")]
        return await Client(Shown().app).request("GET", "/", headers=twice)

    assert asyncio.run(scenario()).text.endswith("# EOF\n")


def test_a_collection_that_fails_is_told_in_the_log_and_to_the_client(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shown = Shown()

    def fail(**_: Any) -> list[Any]:
        raise RuntimeError("no figures today")

    monkeypatch.setattr(Page.of(shown.provider), "families", fail)
    answer = ask(shown.app)
    assert (answer.status, answer.text) == (500, "metrics could not be collected; the log says why\n")
    assert "no figures today" in caplog.text


def test_it_lives_under_a_server_of_its_own() -> None:
    async def scenario() -> list[str]:
        said: list[str] = []
        messages = iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive() -> dict[str, Any]:
            return {"type": next(messages)}

        async def send(message: Any) -> None:
            said.append(message["type"])

        await Shown().app({"type": "lifespan"}, receive, send)
        await Shown().app({"type": "websocket"}, receive, send)
        return said

    assert asyncio.run(scenario()) == ["lifespan.startup.complete", "lifespan.shutdown.complete", "websocket.close"]


@pytest.mark.parametrize("provider", [None, NoOpMeterProvider()])
def test_without_an_sdk_there_is_nothing_to_show(provider: NoOpMeterProvider | None) -> None:
    with pytest.raises(ConfigurationError, match=r"configure\(\)"):
        metrics_app(provider)


def test_endpoints_of_one_provider_share_its_reader_and_show_the_same() -> None:
    shown = Shown()
    shown.meter.create_counter("asked").add(1)
    assert page(metrics_app(shown.provider)) == page(shown.app)


# --- processes ----------------------------------------------------------------------------------------------


def test_the_child_of_a_fork_begins_with_nothing_and_counts_its_own() -> None:
    printed = in_a_process_of_its_own("""
        import asyncio, re
        from opentelemetry.sdk.metrics import MeterProvider
        from glasscache_exporters import metrics_app
        from tests.support.asgi import Client

        provider = MeterProvider(shutdown_on_exit=False)
        app = metrics_app(provider)
        meter = provider.get_meter("test")
        counter, histogram = meter.create_counter("asked"), meter.create_histogram("took")
        counter.add(5)
        histogram.record(1)

        def show(who):
            text = asyncio.run(Client(app).request("GET", "/")).text
            print(who, re.findall("^(?:asked_total|took_count) .*", text, re.M),
                  re.findall('worker="(.*)"', text) == [str(os.getpid())], flush=True)

        show("parent")
        child = os.fork()
        if child == 0:
            show("child")
            counter.add(1)
            show("child")
        else:
            os.waitpid(child, 0)
            show("parent")
    """)
    assert printed.splitlines() == [
        "parent ['asked_total 5', 'took_count 1'] True",
        "child [] True",
        "child ['asked_total 1'] True",
        "parent ['asked_total 5', 'took_count 1'] True",
    ]


def test_a_child_whose_reader_cannot_begin_anew_is_told_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shown = Shown()
    monkeypatch.setattr(_page, "_PATIENCE", 0.001)
    Page.of(shown.provider)._is_known.clear()  # as long as another reader's lock, held when it forked, keeps it waiting
    assert ask(shown.app).status == 500
    assert "held when this process was forked" in caplog.text


def test_the_page_of_a_provider_that_is_gone_has_nothing_to_begin_anew() -> None:
    its_page = Page(MeterProvider(shutdown_on_exit=False))
    its_page.in_child()
    assert its_page._is_known.wait(PATIENCE)
    assert its_page._provider() is None
