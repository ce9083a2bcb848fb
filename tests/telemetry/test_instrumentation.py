"""Beside the tracing that people have already: docs/tracing.md says what these tests show.

Outside: contrib's ASGI middleware, contrib's FastAPI under `opentelemetry-instrument`, FastAPI's own. Inside: the same,
as the mistake that it is.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from tests.support.otel_rig import Rig
from tests.support.otlp import grpc_receiver
from tests.support.otlp_model import Span
from tests.telemetry import contract
from tests.telemetry.processes import Client, client_of, site
from tests.telemetry.story import CALLERS, TRACES, calling

pytestmark = pytest.mark.no_cover  # instrumented processes: twice as slow when they are traced for coverage, too

UNSAMPLED = {"traceparent": f"00-{'d' * 32}-{'e' * 16}-00"}
RESULTS = Counter(["miss", "hit", "stale", "collapsed", "collapsed", "bypass", "error"])


@dataclass(frozen=True)
class Tracing:
    """Whose tracing stands where. `instrumented`: by `opentelemetry-instrument`, else by `configure()`."""

    title: str
    order: str
    instrumented: bool


def orders(place: str) -> list[Tracing]:
    return [
        Tracing("contrib's FastAPI", f"fastapi {place}", instrumented=True),
        Tracing("contrib's ASGI middleware", f"asgi {place}", instrumented=True),
        Tracing("FastAPI's own", f"fastapi {place}", instrumented=False),
    ]


async def everything(client: Client) -> None:
    await client.get("/ask?q=one", **calling(0))
    await client.get("/ask?q=one", **calling(1))
    await client.get("/ask?q=one", **calling(1), authorization="Bearer somebody")
    await leave_a_load_behind(client)
    await client.crowd("/slow?q=dark", "dark", [UNSAMPLED, calling(1)])
    await client.desk(advance=11.0)
    await client.get("/ask?q=one", **calling(2))
    await client.until(loads=0)
    await client.desk(open="broken")
    assert (await client.get("/broken?q=broken", **calling(0))).status_code == 500


async def a_little(client: Client) -> None:
    for number in (0, 1):
        await client.get("/ask?q=one", **calling(number))
    await client.crowd("/slow?q=crowd", "crowd", [calling(2), calling(3)])
    await client.desk(advance=11.0)
    await client.get("/ask?q=one", **calling(2))
    await client.until(loads=0)


async def leave_a_load_behind(client: Client) -> None:
    """The leader of a load hangs up; a follower has its answer."""
    leader = asyncio.create_task(client.get("/slow?q=left", **calling(2)))
    await client.until(loads=1)
    follower = asyncio.create_task(client.get("/slow?q=left", **calling(3)))
    await client.until(waiters=1)
    leader.cancel()
    with suppress(asyncio.CancelledError):
        await leader
    await client.until(readers=1)
    await client.desk(open="left")
    assert (await follower).text == "at last"


def told_by(tracing: Tracing, folder: Path, story: Callable[[Client], Awaitable[None]]) -> list[Span]:
    """All spans of this story."""

    async def scenario() -> None:
        async with client_of(process) as client:
            await story(client)

    settings = {
        "SITE_ORDER": tracing.order,
        "SITE_SETUP": "opentelemetry-instrument" if tracing.instrumented else "configure",
        "OTEL_LOGS_EXPORTER": "none",
    }
    with grpc_receiver() as receiver:
        settings["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.endpoint
        with site(folder, settings, instrumented=tracing.instrumented) as process:
            asyncio.run(scenario())
            process.stop(signal.SIGINT)  # the one signal after which Python's exit handlers run, the SDK's among them
        return receiver.spans()


@pytest.mark.parametrize("tracing", orders("outside"), ids=lambda tracing: tracing.title)
def test_with_tracing_outside_every_trace_is_whole(tmp_path: Path, tracing: Tracing) -> None:
    spans = told_by(tracing, tmp_path, everything)
    contract.assert_no_orphans(spans, *CALLERS)
    assert_roots(spans)
    assert_served(spans)
    assert_detached(spans)
    assert_sampled_waiter(spans)


def assert_roots(spans: list[Span]) -> None:
    """The refresh alone has no parent: it is a trace of its own, linked to the request that set it off."""
    (root,) = [span for span in spans if not span.parent]
    (cause,) = [span for span in spans if span.attributes.get("cache.result") == "stale"]
    (link,) = root.links
    assert (root.name, root.attributes["cache.load.trigger"]) == ("cache.load", "refresh")
    assert link.attributes == {"cache.link.type": "refresh_trigger"}
    assert (link.trace_id, link.span_id) == (cause.trace_id, cause.span_id)
    assert root.trace_id not in TRACES


def assert_served(spans: list[Span]) -> None:
    """Every server span is in its caller's trace and says what the cache did (not of a client that hung up)."""
    served = [span for span in spans if span.kind == "server"]
    for span in served:
        assert (span.trace_id, span.parent) in list(zip(TRACES, CALLERS, strict=True))
    answered = [span for span in served if "cache.result" in span.attributes]
    assert Counter(span.attributes["cache.result"] for span in answered) == RESULTS
    assert len(served) == len(answered) + 1
    contract.assert_server_spans(answered)


def assert_detached(spans: list[Span]) -> None:
    """A load that outlives its request stays in the request's trace, and so does what the origin does."""
    (load,) = [span for span in spans if span.name == "cache.load" and span.trace_id == TRACES[2]]
    (leader,) = [span for span in spans if span.span_id == load.parent]
    (wait,) = [span for span in spans if span.name == "cache.lock.wait" and span.trace_id == TRACES[3]]
    (origin,) = [span for span in spans if span.name == "retrieval" and span.trace_id == TRACES[2]]
    assert leader.kind == "server"
    assert leader.end_ns < load.end_ns
    assert origin.parent == load.span_id
    assert [link.span_id for link in load.links] == [wait.span_id]
    assert [link.span_id for link in wait.links] == [load.span_id]


def assert_sampled_waiter(spans: list[Span]) -> None:
    """A wait for a load that is not sampled says so, so that nobody looks for its holder."""
    (wait,) = [span for span in spans if span.attributes.get("cache.lock.holder.sampled") is False]
    assert wait.trace_id == TRACES[1]
    assert wait.attributes["cache.lock.holder.trace_id"] == "d" * 32


@pytest.mark.parametrize("tracing", orders("inside"), ids=lambda tracing: tracing.title)
def test_with_tracing_inside_a_trace_begins_at_the_load_and_no_server_span_tells_of_the_cache(
    tmp_path: Path, tracing: Tracing
) -> None:
    spans = told_by(tracing, tmp_path, a_little)
    contract.assert_no_orphans(spans, *CALLERS)
    ours = [span for span in spans if span.scope == "glasscache"]
    assert Counter(span.name for span in ours) == {"cache.load": 3, "cache.lock.wait": 1}
    assert {span.parent for span in ours} == {""}  # whoever called
    assert not [span for span in spans if "cache.result" in span.attributes]
    assert not [link for span in ours for link in span.links if link.attributes["cache.link.type"] == "refresh_trigger"]
    assert {span.scope for span in spans} > {"glasscache", "site"}


def test_under_a_hush_instrumented_clients_are_told_to_make_no_spans() -> None:
    with Rig().telemetry.hushed():
        assert not is_instrumentation_enabled()
    assert is_instrumentation_enabled()
