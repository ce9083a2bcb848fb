"""The peers' environment: made once, from `peers.txt`, and what is measured inside it.

Decides where it is (`build/bench-venv`) and when it is made anew (when `peers.txt` has changed). Must never put a peer
into our own environment, nor fail a benchmark because a peer cannot be had.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("peers.txt")
FOLDER = ROOT / "build" / "bench-venv"


class NoPeersError(Exception):
    """The peers cannot be measured; says why, and what would help."""


def ready(folder: Path = FOLDER) -> bool:
    """Whether the environment is there, as `peers.txt` has it."""
    mark = folder / "peers.txt"
    return mark.is_file() and mark.read_bytes() == LIST.read_bytes()


def set_up(folder: Path = FOLDER) -> None:
    """Make the environment. NoPeersError if that fails."""
    python = folder / "bin" / "python"
    install = [
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--no-input",
        "install",
        "--quiet",
        "--requirement",
        str(LIST),
    ]
    for command in ([sys.executable, "-m", "venv", "--clear", str(folder)], [str(python), *install]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NoPeersError(f"they could not be installed: {_last_line(done.stderr)}")
    (folder / "peers.txt").write_bytes(LIST.read_bytes())


def timings(rounds: int, seed: int, scale: float, python: Path = FOLDER / "bin" / "python") -> dict[str, Any]:
    """What `peer_apps` found: `{"timings": ..., "missing": ...}`. NoPeersError if it broke off."""
    command = [str(python), "-m", "tests.bench.peer_apps", str(rounds), str(seed), str(scale)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoPeersError(f"measuring them broke off: {_last_line(done.stderr)}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "no message")
