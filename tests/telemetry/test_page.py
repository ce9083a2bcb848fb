"""docs/telemetry.md says what the names say, of every one of them."""

from __future__ import annotations

import re
from pathlib import Path

import glasscache
from glasscache.otel import EVENTS, LINKS, METRICS, SERVER, SPANS, names
from tests.telemetry import meanings
from tests.telemetry.page import PAGE, in_prometheus, page

SOURCE = Path(glasscache.__file__).parent


def test_the_page_is_what_the_names_generate() -> None:
    assert PAGE.read_text("utf-8") == page(), "run: make reference"


def test_every_name_has_a_meaning_and_every_meaning_a_name() -> None:
    assert list(meanings.METRICS) == [metric.name for metric in METRICS]
    assert list(meanings.SPANS) == list(SPANS)
    assert set(meanings.LINKS) == {kind for kinds in LINKS.values() for kind in kinds}
    assert list(meanings.EVENTS) == [event.name for event in EVENTS]
    carried = {
        *(attribute for metric in METRICS for attribute in metric.attributes),
        *(attribute for attributes in (*SPANS.values(), SERVER) for attribute in attributes),
        *(attribute for event in EVENTS for attribute in event.attributes),
        names.LINK_TYPE,
        names.EVENT_NAME,
    }
    assert set(meanings.ATTRIBUTES) == carried
    constants = {value for name, value in vars(names).items() if name.isupper() and isinstance(value, str)}
    assert {value for value in constants if value.startswith("cache.")} - set(SPANS) <= carried


def test_every_reason_for_a_bypass_is_named() -> None:
    told = {
        reason
        for path in SOURCE.glob("asgi/*.py")
        for reason in re.findall(r'BypassError\("(\w+)"\)', path.read_text())
    }
    assert told
    assert told <= set(meanings.BYPASSES)


def test_prometheus_names_are_those_that_dashboards_ask_for() -> None:
    found = {metric.name: in_prometheus(metric) for metric in METRICS}
    assert found["glasscache.requests"] == "glasscache_requests_total"
    assert found["glasscache.lock.wait.duration"] == "glasscache_lock_wait_duration_seconds_bucket"
    assert found["glasscache.lock.waiter.count"] == "glasscache_lock_waiter_count"
    assert found["glasscache.saved.time"] == "glasscache_saved_time_seconds_total"
    assert found["glasscache.memory.usage"] == "glasscache_memory_usage_bytes"
