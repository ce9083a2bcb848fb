"""What is told of a conditional load. Not in tests/asgi: those run where there is no SDK, too (`make package`)."""

from __future__ import annotations

import asyncio

import pytest

from tests.asgi.site import Site, run
from tests.asgi.test_following import EVERYTHING, Server, cc
from tests.support.otel_rig import Rig


def test_a_confirmation_is_told_inside_of_its_load_with_what_came_of_it() -> None:
    async def scenario() -> None:
        rig = Rig()
        server = Server((b"etag", b'"a"'), cc("max-age=5"))
        site = Site(server, EVERYTHING, telemetry=rig.telemetry)
        await site.get()
        for _ in range(2):
            await asyncio.sleep(6)
            await site.get()
            server.headers[0] = (b"etag", b'"b"')
        server.fails = RuntimeError("no")
        await asyncio.sleep(6)
        with pytest.raises(RuntimeError):
            await site.get()
        spans = {span.context.span_id: span for span in rig.exporter.get_finished_spans() if span.context}
        asked = [span for span in spans.values() if span.name == "cache.revalidate"]
        told = [dict(span.attributes or {}) for span in asked]
        assert told == [
            {"cache.key_group": "/*", "cache.result": "revalidated"},
            {"cache.key_group": "/*", "cache.result": "miss"},
            {"cache.key_group": "/*", "error.type": "RuntimeError"},
        ]
        loads = [dict(spans[span.parent.span_id].attributes or {}) for span in asked if span.parent]
        assert [load["cache.load.trigger"] for load in loads] == ["revalidate"] * 3

    run(scenario)
