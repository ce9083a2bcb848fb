"""The copyable examples, one per framework: the second answer comes from memory."""

from __future__ import annotations

import asyncio
import importlib
from pathlib import Path

import pytest

from tests.frameworks.table import FRAMEWORKS, Framework
from tests.support.asgi import Client, Response

EXAMPLES = Path(__file__).parents[2] / "examples" / "frameworks"


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=[framework.id for framework in FRAMEWORKS])
def test_an_example_answers_the_second_time_from_memory(framework: Framework) -> None:
    module = importlib.import_module(f"frameworks.{framework.id}_app")
    client = Client(getattr(module, "application", None) or module.app)

    async def scenario() -> list[Response]:
        answers = [await client.request("GET", "/search?q=cache") for _ in range(2)]
        await module.cache.aclose()  # as a server's shutdown would: what a framework does after its answer ends, too
        return answers

    first, second = asyncio.run(scenario())
    assert first.json() == second.json() == {"answer": "what there is to know about cache"}
    assert first.header("cache-status") == "glasscache; fwd=uri-miss; stored"
    assert (second.header("cache-status") or "").startswith("glasscache; hit; ttl=")


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=[framework.id for framework in FRAMEWORKS])
def test_an_example_is_short(framework: Framework) -> None:
    assert 10 <= len((EXAMPLES / f"{framework.id}_app.py").read_text("utf-8").splitlines()) <= 25
