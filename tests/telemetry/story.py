"""The scripted load: whatever can happen to a request on one machine, and what must arrive of it.

Decides the script and its exact figures (the site's clock stands still unless the script moves it).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress

import pytest

from tests.support.otlp import Receiver
from tests.support.otlp_model import Metric, Span
from tests.telemetry import contract
from tests.telemetry.processes import Client, Process, client_of

CALLERS = tuple(f"{number:016x}" for number in range(0xA0, 0xA4))
TRACES = tuple(f"{number:032x}" for number in range(0xB0, 0xB4))
REQUESTS = Counter(
    {
        ("miss", "origin", "/ask"): 22,
        ("hit", "memory", "/ask"): 3,
        ("bypass", "none", "/ask"): 2,
        ("stale", "memory", "/ask"): 1,
        ("miss", "origin", "/slow"): 1,
        ("collapsed", "origin", "/slow"): 3,
        ("error", "none", "/broken"): 1,
        ("miss", "origin", "/page"): 1,
        ("revalidated", "origin", "/page"): 1,
        ("miss", "origin", "/mine"): 1,
    }
)
EVICTIONS = {"evicted": 15, "replaced": 2, "rejected": 1, "invalidated": 8}


def calling(number: int) -> dict[str, str]:
    """The headers of a caller with a trace of its own."""
    return {"traceparent": f"00-{TRACES[number]}-{CALLERS[number]}-01"}


async def tell(client: Client) -> None:
    """Run the script."""
    for _ in range(4):  # a miss and three hits
        await client.get("/ask?q=one")
    crowd = await client.crowd("/slow?q=crowd", "crowd", [calling(number) for number in range(4)])
    assert [answer.text for answer in crowd] == ["at last"] * 4
    await client.get("/ask?q=one", authorization="Bearer somebody")
    await client.get("/ask?q=never", range="bytes=0-1")  # of what is not stored
    assert (await client.get("/mine")).headers["cache-status"] == "glasscache; fwd=uri-miss; detail=private"
    await client.desk(open="broken")
    assert (await client.get("/broken?q=broken")).status_code == 500
    await client.get("/page")
    await client.desk(advance=11.0)
    assert (await client.get("/page")).headers["cache-status"].startswith("glasscache; fwd=stale; fwd-status=304")
    assert "detail=revalidating" in (await client.get("/ask?q=one")).headers["cache-status"]
    await client.until(loads=0)  # the refresh behind it
    await client.get("/ask?q=big")  # larger than the store
    for number in range(10):
        await client.get(f"/ask?q={number}")
    await client.desk(advance=10.5)
    for number in range(10, 20):  # more than it holds within its time: that is told
        await client.get(f"/ask?q={number}")
    await client.desk(invalidate="docs")


def run(process: Process) -> None:
    async def scenario() -> None:
        async with client_of(process) as client:
            await tell(client)

    asyncio.run(scenario())


def assert_arrived(receiver: Receiver) -> None:
    """The whole story arrives, sooner or later, named as the contract has it."""

    def has_arrived(_: Receiver) -> bool:
        try:
            assert_told(receiver)
        except (AssertionError, KeyError, ValueError):
            return False
        return True

    with suppress(TimeoutError):
        receiver.wait_until(has_arrived)
    assert_told(receiver)


def assert_told(receiver: Receiver) -> None:
    metrics, spans = receiver.metrics(), receiver.spans()
    assert requests(metrics["glasscache.requests"]) == REQUESTS
    contract.assert_metrics(metrics)
    contract.assert_spans(spans, contract.OF_ONE)
    contract.assert_server_spans(spans)
    contract.assert_no_orphans(spans, *CALLERS)
    (event,) = receiver.logs()
    contract.assert_record(event, "glasscache.eviction.pressure")
    assert_figures(metrics)
    assert_links(spans)
    assert_exemplars(metrics["glasscache.lock.wait.duration"], spans)
    assert_refresh(spans)
    loads = [span.attributes for span in spans if span.name == "cache.load"]
    unstored = [
        (told["cache.key_group"], told["cache.unstored.reason"]) for told in loads if "cache.unstored.reason" in told
    ]
    assert unstored == [("/mine", "private")]


def requests(metric: Metric) -> Counter[tuple[str, str, str]]:
    """Requests by result, tier and group, over all processes."""
    found: Counter[tuple[str, str, str]] = Counter()
    for point in metric.points:
        of = point.attributes
        found[of["cache.result"], of["cache.tier"], of["cache.key_group"]] += int(point.value)
    return +found


def assert_figures(metrics: dict[str, Metric]) -> None:
    def point(name: str, **attributes: str) -> float:
        wanted = {f"cache.{key.replace('__', '.')}": value for key, value in attributes.items()}
        return metrics[f"glasscache.{name}"].point(wanted).value

    assert point("request.bypasses", bypass__reason="credentials", key_group="/ask") == 1
    assert point("request.bypasses", bypass__reason="range", key_group="/ask") == 1
    assert point("unstored.answers", unstored__reason="private", key_group="/mine") == 1
    waits = metrics["glasscache.lock.wait.duration"].point({"cache.lock.outcome": "served"})
    assert waits.count == 3
    assert waits.sum == pytest.approx(0.9)
    load = metrics["glasscache.load.duration"].point({"cache.key_group": "/slow"})
    assert load.count == 1
    assert load.sum == pytest.approx(0.5)
    failed = metrics["glasscache.load.duration"].point({"cache.key_group": "/broken"})
    assert failed.attributes["error.type"] == "RuntimeError"
    assert point("stale.age", stale__reason="revalidating") == pytest.approx(1.5)
    for reason, number in EVICTIONS.items():
        assert point("evictions", eviction__reason=reason) == number
    assert point("invalidations", invalidation__source="tag") == 8
    assert point("lock.acquisitions", lock__result="immediate") == 27
    assert point("saved.time", key_group="/slow") == pytest.approx(1.5)
    for name in ("lock.waiter.count", "lock.holder.count", "entry.count", "memory.usage"):
        assert point(name) == 0, name
    assert (point("entry.limit"), point("memory.limit")) == (8, 100_000)


def assert_links(spans: list[Span]) -> None:
    """Each wait leads to the load that it waited for, and that load to them all."""
    waits = [span for span in spans if span.name == "cache.lock.wait"]
    (holder,) = [span for span in spans if span.name == "cache.load" and span.links and span.parent]
    for position, wait in enumerate(sorted(waits, key=lambda span: span.start_ns), 1):
        (link,) = wait.links
        assert (link.trace_id, link.span_id) == (holder.trace_id, holder.span_id)
        assert link.attributes == {"cache.link.type": "lock_holder"}
        assert wait.attributes == {
            "cache.key_group": "/slow",
            "cache.lock.scope": "process",
            "cache.lock.outcome": "served",
            "cache.lock.queue.position": position,
            "cache.lock.queue.length": 3,
            "cache.lock.holder.trace_id": holder.trace_id,
            "cache.lock.holder.span_id": holder.span_id,
            "cache.lock.holder.elapsed": pytest.approx(0.2),
            "cache.lock.holder.sampled": True,
        }
        assert wait.trace_id == TRACES[position]  # of the caller who waited
    assert holder.trace_id == TRACES[0]
    assert {(link.trace_id, link.span_id) for link in holder.links} == {(w.trace_id, w.span_id) for w in waits}
    assert all(link.attributes == {"cache.link.type": "lock_waiter"} for link in holder.links)
    assert holder.attributes["cache.lock.waiter.count"] == 3
    (origin,) = [span for span in spans if span.parent == holder.span_id]
    assert origin.name == "retrieval"


def assert_exemplars(waited: Metric, spans: list[Span]) -> None:
    """The histogram of waits leads to spans of waits."""
    waits = {(span.trace_id, span.span_id) for span in spans if span.name == "cache.lock.wait"}
    (point,) = waited.points
    assert point.exemplars
    for exemplar in point.exemplars:
        assert (exemplar.trace_id, exemplar.span_id) in waits
        assert exemplar.value == pytest.approx(0.3)
        assert exemplar.attributes == {}


def assert_refresh(spans: list[Span]) -> None:
    """A refresh is a new trace, and linked to the request that set it off."""
    (refresh,) = [span for span in spans if span.attributes.get("cache.load.trigger") == "refresh"]
    (cause,) = [span for span in spans if span.attributes.get("cache.result") == "stale"]
    (link,) = refresh.links
    assert (refresh.parent, link.span_id, link.trace_id) == ("", cause.span_id, cause.trace_id)
    assert link.attributes == {"cache.link.type": "refresh_trigger"}
    assert refresh.trace_id != cause.trace_id
