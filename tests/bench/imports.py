"""How long `import glasscache.asgi` takes above what it imports from others.

Decides what counts as ours: the time of the import in an interpreter that has loaded all other modules already. Every
sample is a new process; bytecode is there, as it is after an installation.
"""

from __future__ import annotations

import json
import subprocess
import sys
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
    others = json.loads(_output(_OTHERS))
    above, whole = [], []
    for _ in range(samples):
        above.append(float(_output(_TIMED, *others)))
        whole.append(float(_output(_TIMED)))
    return median(above), median(whole)


def _output(code: str, *arguments: str) -> str:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True).stdout
