"""Run the tests on every supported Python that this machine has, beside the one that runs this: `make pythons`.

Decides which those are: the versions that pyproject.toml names, found on the path or among pyenv's, and working. Each
gets an environment of its own below build/. `--eager`: the first that can start tasks eagerly does it once more, with
that. Must never pass where tests fail, and ends with the first that does: what failed is then the end of what is
printed, of which a CI may keep no more. A version that is not there is named.
"""

import os
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLASSIFIER = "Programming Language :: Python :: 3."
WORKS = "import ensurepip, sys, venv; sys.exit(sys.implementation.name != 'cpython' or sys.version_info[1] != {minor})"


def supported() -> list[int]:
    """Minor versions of Python 3, as pyproject.toml tells them to the world."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    minors = (name.removeprefix(CLASSIFIER) for name in project["classifiers"] if name.startswith(CLASSIFIER))
    return sorted(int(minor) for minor in minors if minor.isdecimal())


def found(minor: int) -> str | None:
    """A Python of that version which can make environments; a shim of pyenv's may stand for nothing."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    installed = (str(python) for python in pyenv.glob(f"versions/3.{minor}.*/bin/python"))
    for python in filter(None, (shutil.which(f"python3.{minor}"), *installed)):
        works = subprocess.run([python, "-c", WORKS.format(minor=minor)], capture_output=True, check=False)
        if works.returncode == 0:
            return python
    return None


EAGER = 12
"""The first minor version that has `asyncio.eager_task_factory`."""


def passes(minor: int, python: str) -> bool:
    """`make test` with that Python; the arguments of the outer make reach it through the environment."""
    print(f"==> Python 3.{minor}: {python}", flush=True)
    command = ["make", "--no-print-directory", "test", f"PYTHON={python}", f"VENV=build/python3.{minor}"]
    is_well = subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    return is_well and (minor != EAGER or "--eager" not in sys.argv or passes_eagerly(minor))


def passes_eagerly(minor: int) -> bool:
    """The same with loops that start tasks eagerly; but for the bench, whose crowds are to find a load under way."""
    print(f"==> Python 3.{minor}, eager tasks", flush=True)
    pytest = [f"build/python3.{minor}/bin/python", "-m", "pytest", "-q", "-p", "tests.support.eager_tasks"]
    spread = ["-n", "auto", "--maxprocesses", "4", "--dist", "worksteal"]
    chosen = ["-m", "not soak and not seeded", "--ignore=tests/test_bench.py"]
    return subprocess.run([*pytest, *spread, *chosen], cwd=ROOT, check=False).returncode == 0


def main() -> int:
    """Exit code 1 if the tests fail on one of them."""
    told = []
    for minor in supported():
        if minor == sys.version_info.minor:
            continue  # `make test` is run with this one
        python, began = found(minor), time.monotonic()
        if python is None:
            told.append(f"Python 3.{minor}: not on this machine")
        elif passes(minor, python):
            told.append(f"Python 3.{minor}: passed, {time.monotonic() - began:.0f} s")
        else:
            print(f"Python 3.{minor}: FAILED")
            return 1
    print("", *told, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
