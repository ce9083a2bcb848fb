"""How long `import glasscache.asgi` takes above what it imports from others.

Decides what counts as ours: the time of the import in an interpreter that has loaded all other modules already. Every
sample is a new process; bytecode is there, as it is after an installation, whatever this environment says of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from statistics import median

_OTHERS = (
    "import sys, json; import glasscache.asgi; print(json.dumps([n for n in sys.modules if n[:10] != 'glasscache']))"
)
_TIMED = """
import importlib, sys, time
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError:  # made by another module, not by the import system
        pass
begun = time.process_time()
import glasscache.asgi
print((time.process_time() - begun) * 1e3)
"""


def milliseconds(samples: int) -> tuple[float, float]:
    """The medians of two times: above other modules, and with them."""
    with tempfile.TemporaryDirectory() as bytecode:
        others = json.loads(_output(bytecode, _OTHERS))
        above, whole = [], []
        for _ in range(samples):
            above.append(float(_output(bytecode, _TIMED, *others)))
            whole.append(float(_output(bytecode, _TIMED)))
    return median(above), median(whole)


def _output(bytecode: str, code: str, *arguments: str) -> str:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=env | {"PYTHONPYCACHEPREFIX": bytecode},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout
