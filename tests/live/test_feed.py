"""The live page's feed on a real uvicorn, in a process as people start it: it does not hold up the end."""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.support.patience import PATIENCE
from tests.support.ports import free_port
from tests.telemetry.processes import running

COMMAND = [sys.executable, "-m", "uvicorn", "tests.browser.service:app", "--log-level", "warning"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_told_to_stop_ends_its_feeds_whole_and_stops(tmp_path: Path, number: signal.Signals) -> None:
    """uvicorn waits for its requests without limit, and tells the app of the end only when they are over."""
    with (
        free_port() as port,
        running([*COMMAND, "--port", str(port)], port, tmp_path, {}) as process,
        ExitStack() as stack,
    ):
        client = stack.enter_context(httpx.Client(base_url=process.url, timeout=PATIENCE, trust_env=False))
        feeds = []
        for _ in range(3):
            headers = {b"authorization": "Bearer a token, ümlaut and all".encode()}
            response = stack.enter_context(client.stream("GET", "/metrics/cache/live/events", headers=headers))
            feeds.append(response.iter_bytes())
            assert b"event: hello" in next(feeds[-1])
        assert process.stop(number) in (0, -number)
        for feed in feeds:
            list(feed)  # to the clean end of a chunked body, else this raises
        assert process.said("stderr") == ""
