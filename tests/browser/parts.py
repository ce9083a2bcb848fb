"""What `make browser` needs beyond .venv: Playwright below build/browser, and a Chromium: what is there, or Debian's.

Decides where they come from. `python -m tests.browser.parts` installs what is missing. Must never download a browser
that Debian does not sign, nor change a machine whose root it is not.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build" / "browser"
LIBRARIES = BUILD / "python"
SHOTS = BUILD / "shots"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_DEBIAN = ("chromium", "fonts-dejavu-core")

FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium() -> str | None:
    """Where Chromium is: what CHROMIUM says, else the first on the path."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)


def flags() -> list[str]:
    """How it is started: its sandbox does not work for root."""
    return [*FLAGS, *(("--no-sandbox",) if os.name == "posix" and os.geteuid() == 0 else ())]


def install() -> None:
    """Install what is missing; SystemExit with the remedy if that cannot be done here."""
    _install_libraries()
    if chromium() is None:
        _install_chromium()


def _install_libraries() -> None:
    wanted = HERE / "requirements.txt"
    done = LIBRARIES / "requirements.txt"
    if done.exists() and done.read_bytes() == wanted.read_bytes():
        return
    shutil.rmtree(LIBRARIES, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet"]
    subprocess.run([*pip, "--require-hashes", "--target", str(LIBRARIES), "-r", str(wanted)], check=True)
    shutil.copy(wanted, done)


def _install_chromium() -> None:
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise SystemExit(
            "make browser: there is no Chromium here: install one (Debian: apt-get install chromium), "
            "or say where it is with CHROMIUM=/path/to/it"
        )
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"]
    subprocess.run([*apt, "update"], check=True, env=quiet)
    subprocess.run([*apt, "install", "--yes", "--no-install-recommends", *_DEBIAN], check=True, env=quiet)


if __name__ == "__main__":
    install()
