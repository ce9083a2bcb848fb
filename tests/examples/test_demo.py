"""The demo as a user runs it: a real process, the real model, real HTTP; only corpus and crowd are small."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import demo
from tests.support.patience import PATIENCE
from tests.support.redis_process import UNHURRIED_VARIABLES, RedisProcess

pytestmark = pytest.mark.no_cover

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"
SECRET = "a secret that all machines of this test share"
SMALL = ("--passages=120", "--requests=24", "--burst=40")


DEAF = ("sh", "-c", 'trap "" INT && exec "$@"', "sh")
"""As a shell without job control starts what it puts into the background."""


@contextmanager
def start(*arguments: str, before: tuple[str, ...] = (), **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The demo, under way; what is left of it when the block ends is killed."""
    with subprocess.Popen(
        [*before, sys.executable, str(DEMO), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "COLUMNS": "80"} | environment,
    ) as show:
        try:
            yield show
        finally:
            show.kill()


def test_once_shows_the_outcomes_and_a_burst_that_came_to_one_load_then_ends() -> None:
    with start("--once", *SMALL) as show:
        printed, _ = show.communicate(timeout=5 * PATIENCE)
    assert show.returncode == 0, printed
    text = " ".join(printed.split())
    assert "Burst: 40 identical questions at once came to 1 load; all 40 were answered" in text
    (counts,) = re.findall(r"all 40 were answered within [\d.,]+ m?s\. Cache-Status: (.*?)\.", text)
    outcomes = {outcome: int(count) for count, outcome in (words.split() for words in counts.split(", "))}
    assert outcomes["miss"] == 1
    assert outcomes["collapsed"] + outcomes.get("hit", 0) == 39, "whoever comes late on a busy machine finds the answer"
    assert "Event stream: 4 readers came to 1 load and read the same events" in text
    assert re.search(r"hit +fresh, from the cache +\d+ ", printed)
    assert re.search(r"miss +loaded by this request +\d+ ", printed)
    assert re.search(r"A hit took .* a miss .* times faster", text)
    assert re.search(r"time saved +[\d.,]+ s", printed)
    assert "\x1b" not in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_with_a_server_a_second_machine_finds_the_answers_of_the_first_one_there(tmp_path: Path) -> None:
    with RedisProcess(tmp_path) as server:
        url = f"redis://127.0.0.1:{server.port}"
        shared: dict[str, Any] = {
            "CACHE_TYPE": "hybrid",
            "REDIS_URL": url,
            "GLASSCACHE_KEY": SECRET,
        } | UNHURRIED_VARIABLES
        printed = []
        for _ in range(2):
            with start("--once", *SMALL, **shared) as show:
                printed.append(" ".join(show.communicate(timeout=5 * PATIENCE)[0].split()))
            assert show.returncode == 0, printed
    assert "Burst: 40 identical questions at once came to 1 load" in printed[0]
    assert "Burst: 40 identical questions at once came to 0 loads" in printed[1]
    assert re.search(r"shared tier redis: ok leases held \d", printed[1]), printed[1]


def test_how_to_start_a_second_machine_is_said_where_there_can_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CACHE_TYPE", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GLASSCACHE_KEY", "key")
    assert demo.second_machine() == ""
    monkeypatch.setenv("CACHE_TYPE", "hybrid")
    monkeypatch.setenv("REDIS_URL", "redis://host:1")
    assert "GLASSCACHE_KEY=key \\\n    CACHE_TYPE=hybrid REDIS_URL=redis://host:1 make demo" in demo.second_machine()
    monkeypatch.setenv("REDIS_URL", "redis://user:password@host:1")
    assert "REDIS_URL=$REDIS_URL make" in demo.second_machine()


def test_it_stays_up_for_the_lines_it_prints_and_ctrl_c_ends_it_without_a_traceback() -> None:
    with start(*SMALL) as show, httpx.Client(timeout=PATIENCE, trust_env=False) as http:
        assert show.stdout is not None
        printed = []
        for line in show.stdout:
            printed.append(line)
            if "Ctrl-C ends it" in line:
                break
        url = re.search(r"http://[\d.:]+", "".join(printed))
        assert url is not None, printed
        page = re.search(r"Watch it live:\n(\S+)#token=(\S+)\n", "".join(printed))
        assert page is not None, printed
        assert "glasscache live" in http.get(page[1]).text
        token = {"authorization": f"Bearer {page[2]}"}
        with http.stream("GET", f"{page[1]}/events", headers=token) as feed:
            assert feed.status_code == 200
        body = {"question": "What does the with statement do?"}
        asked = [http.post(f"{url[0]}/ask", json=body) for _ in range(2)]
        show.send_signal(signal.SIGINT)
        rest, _ = show.communicate(timeout=PATIENCE)
    assert "; hit; ttl=" in asked[1].headers["cache-status"]
    assert asked[0].content == asked[1].content
    assert rest.strip() == ""
    assert show.returncode == 130


def test_a_wrong_environment_is_refused_before_anything_is_built() -> None:
    with start("--once", CACHE_TYPE="floppy") as show:
        printed, _ = show.communicate(timeout=PATIENCE)
    assert show.returncode == 1
    assert "CACHE_TYPE" in printed
    assert "Traceback" not in printed
    assert "Index" not in printed


@pytest.mark.parametrize(
    ("marker", "number", "code"),
    [
        ("Index Python's documentation", signal.SIGINT, 130),
        ("Index Python's documentation", signal.SIGTERM, 143),
        ("Serving on", signal.SIGINT, 130),
        ("Serving on", signal.SIGTERM, 143),
    ],
)
def test_a_signal_in_the_middle_ends_it_without_a_traceback_even_if_it_began_deaf_to_ctrl_c(
    marker: str, number: signal.Signals, code: int
) -> None:
    with start("--requests=100000", *SMALL[::2], before=DEAF) as show:
        assert show.stdout is not None
        for line in show.stdout:
            if marker in line:
                break
        show.send_signal(number)
        rest, _ = show.communicate(timeout=PATIENCE)
    assert "Traceback" not in rest
    assert show.returncode == code


def test_a_port_that_is_taken_is_refused_at_once_with_a_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with start(f"--port={port}") as show:
            printed, _ = show.communicate(timeout=PATIENCE)
    assert show.returncode == 1
    assert f"Cannot serve on port {port} (" in printed
    assert "name another one with --port" in printed
    assert "Index" not in printed
