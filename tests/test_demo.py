"""The demo as a user runs it: a real process, the real model, real HTTP; only corpus and crowd are small."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.redis_process import RedisProcess

DEMO = Path(__file__).parents[1] / "examples" / "demo.py"
SMALL = ("--passages=120", "--requests=24", "--burst=40")


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(DEMO), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "COLUMNS": "80"} | environment,
    )


def test_once_shows_the_outcomes_and_a_burst_that_came_to_one_load_then_ends() -> None:
    with start("--once", *SMALL) as demo:
        printed, _ = demo.communicate(timeout=120)
    assert demo.returncode == 0, printed
    text = " ".join(printed.split())
    assert "Burst: 40 identical questions at once came to 1 load; all 40 were answered" in text
    assert "Cache-Status: 39 collapsed, 1 miss." in text
    assert "Event stream: 4 readers came to 1 load and read the same events" in text
    assert re.search(r"hit +fresh, from the cache +\d+ ", printed)
    assert re.search(r"miss +loaded by this request +\d+ ", printed)
    assert re.search(r"A hit took .* a miss .* times faster", text)
    assert re.search(r"time saved +[\d.,]+ s", printed)
    assert "\x1b" not in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_with_a_server_it_shows_the_same_and_shares_its_answers_there(tmp_path: Path) -> None:
    with RedisProcess(tmp_path) as server:
        url = f"redis://127.0.0.1:{server.port}"
        with start("--once", *SMALL, CACHE_TYPE="hybrid", REDIS_URL=url) as demo:
            printed, _ = demo.communicate(timeout=120)
        assert server.do("DBSIZE") > 0
    assert demo.returncode == 0, printed
    assert "Burst: 40 identical questions at once came to 1 load" in " ".join(printed.split())


def test_it_stays_up_for_the_lines_it_prints_and_ctrl_c_ends_it_without_a_traceback() -> None:
    with start(*SMALL) as demo:
        assert demo.stdout is not None
        printed = []
        for line in demo.stdout:
            printed.append(line)
            if "Ctrl-C ends it" in line:
                break
        url = re.search(r"http://[\d.:]+", "".join(printed))
        assert url is not None, printed
        body = {"question": "What does the with statement do?"}
        asked = [httpx.post(f"{url[0]}/ask", json=body, trust_env=False) for _ in range(2)]
        demo.send_signal(signal.SIGINT)
        rest, _ = demo.communicate(timeout=30)
    assert "; hit; ttl=" in asked[1].headers["cache-status"]
    assert asked[0].content == asked[1].content
    assert rest.strip() == ""
    assert demo.returncode == 130


def test_a_wrong_environment_is_refused_before_anything_is_built() -> None:
    with start("--once", CACHE_TYPE="floppy") as demo:
        printed, _ = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert "CACHE_TYPE" in printed
    assert "Traceback" not in printed
    assert "Index" not in printed


@pytest.mark.parametrize("marker", ["Index Python's documentation", "Serving on"])
def test_ctrl_c_in_the_middle_ends_it_without_a_traceback(marker: str) -> None:
    with start("--requests=100000", *SMALL[::2]) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if marker in line:
                break
        demo.send_signal(signal.SIGINT)
        rest, _ = demo.communicate(timeout=30)
    assert "Traceback" not in rest
    assert demo.returncode == 130


def test_a_port_that_is_taken_is_refused_at_once_with_a_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with start(f"--port={port}") as demo:
            printed, _ = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert f"Cannot serve on port {port} (" in printed
    assert "name another one with --port" in printed
    assert "Index" not in printed
