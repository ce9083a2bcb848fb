"""examples/observed.py, as its first lines tell to run and to ask it."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from tests.support.ports import free_port
from tests.telemetry.processes import ROOT, Process, client_of, running

COMMAND = [sys.executable, "-m", "uvicorn", "observed:app", "--log-level", "warning", "--port"]


async def ask(process: Process) -> str:
    """Three questions at once, then Prometheus' page."""
    async with client_of(process) as client:
        answers = await asyncio.gather(*(client.get("/search?q=cache") for _ in range(3)))
        assert {answer.status_code for answer in answers} == {200}
        page = await client.http.get(
            "/metrics", headers={"accept": "application/openmetrics-text"}, follow_redirects=True
        )
    return page.text


def test_three_questions_at_once_are_one_load_and_two_waits_on_the_terminal_and_on_the_page(tmp_path: Path) -> None:
    with free_port() as port:
        settings = {"PYTHONPATH": str(ROOT / "examples")}
        with running([*COMMAND, str(port)], port, tmp_path, settings) as process:
            page = asyncio.run(ask(process))
            process.stop()
        said = re.sub(r"(?m)^\d\d:\d\d:\d\d\.\d{3}  ", "", process.said("stdout"))
        assert process.said("stderr") == ""
    (load,) = re.findall(r"(?m)^span +[\d.]+ s  cache\.load  trace \w{8} span (\w{8})", said)
    assert said.count(f"  -> lock_holder {load}  ") == 2
    assert "event   WARN  glasscache.lock.contention  waited long for another request's load" in said
    assert "metric  glasscache.requests  2 (+2)  name=observed result=collapsed tier=origin key_group=/search" in said
    assert re.search(r'glasscache_requests_total\{.*cache_result="collapsed",cache_tier="origin"\} 2\n', page)
    assert re.search(
        r'lock_wait_duration_seconds_bucket\{.*le="[\d.]+"\} 2 # \{trace_id="\w{32}",span_id="\w{16}"\} \d', page
    )
