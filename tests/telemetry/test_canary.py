"""A secret word in everything that a client sends, and in what a handler raises, is found nowhere outside.

Searched: the bytes of every export request, all that the process logged (each record with all of its attributes) or
wrote to stderr, and the pages about the cache. Apart from them, on stdout, is uvicorn's own log: a handler's error
passes through the cache to the server, which logs its words and traceback as it would without a cache.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.otlp import Receiver, grpc_receiver
from tests.support.otlp_model import Span
from tests.telemetry.processes import Client, Process, client_of, site

CANARY = "s3cr3tcanary0f4ll"
EVERYWHERE = {
    "x-tenant": CANARY,
    "x-request-id": CANARY,
    "user-agent": CANARY,
    "cookie": f"session={CANARY}",
    "baggage": f"user={CANARY}",
    "tracestate": f"vendor={CANARY}",
    "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
}
SHOWN = {name: value for name, value in EVERYWHERE.items() if name != "cookie"}  # with it most rules bypass


def exported(receiver: Receiver) -> bytes:
    return b"".join(request.SerializeToString() for request in receiver.requests()).lower()


async def sing(client: Client) -> list[str]:
    """Every outcome with the canary in it; what the pages about the cache say, the first of them without the token."""
    for _ in range(2):  # a miss and a hit, of each kind of key
        await client.get(f"/ask?q={CANARY}", **SHOWN)
        await client.get(f"/documents/{CANARY}", **SHOWN)
        told = await client.http.post("/question", json={"question": CANARY}, headers=EVERYWHERE)
        assert CANARY in told.text
    await client.get(f"/ask?q={CANARY}", **EVERYWHERE)  # bypassed: credentials
    await client.http.post("/question", content=f'{{"broken": {CANARY}', headers={"content-type": "text/plain"})
    # long enough for an event of contention
    await client.crowd(f"/slow?q={CANARY}", CANARY, [SHOWN] * 3, waiting=2.0)
    broken = await client.crowd(f"/broken?q={CANARY}-too", f"{CANARY}-too", [SHOWN] * 3)
    assert [answer.status_code for answer in broken] == [500] * 3
    await client.desk(advance=11.0)
    await client.get(f"/ask?q={CANARY}", **SHOWN)  # stale
    await client.until(loads=0)
    await client.desk(invalidate=CANARY)
    token = {"authorization": "Bearer token"}
    pages = [await client.get("/metrics/cache")]
    pages += [await client.get(f"/metrics/cache{page}", **token) for page in ("", "/contention")]
    async with client.http.stream("GET", "/metrics/cache/live/events", headers=token) as feed:
        return [*(page.text for page in pages), await anext(feed.aiter_text())]


def scenario(process: Process) -> list[str]:
    async def run() -> list[str]:
        async with client_of(process) as client:
            return await sing(client)

    return asyncio.run(run())


@pytest.mark.parametrize("order", ["cache alone", "asgi outside"])
def test_a_canary_is_found_nowhere_outside(tmp_path: Path, order: str) -> None:
    with grpc_receiver() as receiver:
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "SITE_ORDER": order}
        with site(tmp_path, settings) as process:
            totals, groups, *waits = scenario(process)
            process.stop()
    assert CANARY in process.said("stdout")  # the words of the handler's error, told by the server
    assert CANARY not in process.said("stderr").lower()
    assert "glasscache.lock.contention" in process.said("stderr")
    assert CANARY not in totals
    assert CANARY not in groups
    assert '"/documents/{id}"' in groups
    for told in waits:
        assert '"key_group":"/slow"' in told
        assert CANARY not in told.lower()
    ours = {name: metric for name, metric in receiver.metrics().items() if name.startswith("glasscache.")}
    assert CANARY not in repr(ours)
    if order == "cache alone":
        assert {span.scope for span in receiver.spans()} == {"glasscache", "site"}
        assert CANARY.encode() not in exported(receiver)
    else:  # what tracing itself says of a URL is the user's choice
        assert not [span for span in receiver.spans() if CANARY in of_the_cache(span)]


def of_the_cache(span: Span) -> str:
    """What the cache says in this span: all of its own, and its attributes on others."""
    if span.scope == "glasscache":
        return repr(span).lower()
    return repr({name: value for name, value in span.attributes.items() if name.startswith("cache.")}).lower()


def test_the_words_of_an_error_after_the_answer_are_told_to_the_log_of_the_process_alone(tmp_path: Path) -> None:
    """No server is left to tell it: what a load does after its answer belongs to no request."""
    with grpc_receiver() as receiver:
        with site(tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}) as process:

            async def run() -> None:
                async with client_of(process) as client:
                    assert (await client.get(f"/late?q={CANARY}")).status_code == 200
                    await client.until(loads=0)

            asyncio.run(run())
            process.stop()
        receiver.wait_until(lambda got: "cache.load" in {span.name for span in got.spans()})
    assert CANARY.encode() not in exported(receiver)
    told = process.said("stderr")
    assert "glasscache: the origin failed after its answer was complete" in told
    assert f"RuntimeError: no work for {CANARY}" in told
