"""Real uvicorn, two workers and a disk: one load for both, and none after a restart."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.machines.fleet import ROOT, SECRET, until
from tests.support.patience import PATIENCE
from tests.support.ports import free_port


@contextmanager
def served(folder: Path, port: int) -> Iterator[str]:
    """Two workers, until the block ends."""
    settings = {
        "CACHE_TYPE": "disk",
        "GLASSCACHE_DISK_PATH": str(folder / "cache"),
        "GLASSCACHE_KEY": SECRET,
        "GLASSCACHE_FAR_TIMEOUT": "10",
        "MACHINE_FOLDER": str(folder),
    }
    command = [sys.executable, "-m", "uvicorn", "tests.disk.served:app", "--workers", "2", "--port", str(port)]
    process = subprocess.Popen([*command, "--log-level", "warning"], cwd=ROOT, env={**os.environ, **settings})
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: answers(url), 0.05)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/pid", trust_env=False).is_success
    except httpx.TransportError:
        return False


def ask_both(url: str) -> list[tuple[str, str]]:
    """What two workers answer, and what they say of it."""
    found: dict[str, tuple[str, str]] = {}

    def both() -> bool:
        with httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE) as client:  # one connection, one worker
            worker = client.get("/pid").text
            answer = client.get("/ask?q=1")
            found.setdefault(worker, (answer.text, answer.headers["cache-status"]))
        return len(found) == 2

    until(both)
    return list(found.values())


def test_two_workers_load_once_and_answer_from_the_disk_after_a_restart(tmp_path: Path) -> None:
    with free_port() as port:
        with served(tmp_path, port) as url:
            (first, loaded), (second, found) = ask_both(url)
        assert first == second
        assert loaded.startswith("glasscache; fwd=uri-miss; stored")
        assert found.startswith("glasscache; hit; ttl=")
        with served(tmp_path, port) as url:
            again = ask_both(url)
    assert {body for body, _ in again} == {first}
    assert all(said.startswith("glasscache; hit; ttl=") for _, said in again)
    assert len(list(tmp_path.glob("load-*"))) == 1
