"""Draws what `make demo ARGS=--once` printed as docs/demo.svg: run it through `make picture`."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
COLUMNS = 88


def main() -> None:
    """Run the demo, keep the last state of every line (progress bars rewrite theirs), and draw it."""
    environment = os.environ | {"COLUMNS": str(COLUMNS), "FORCE_COLOR": "1"}
    command = [sys.executable, str(ROOT / "examples" / "demo.py"), "--once"]
    printed = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout.decode()
    lines = [line.rsplit("\r", 1)[-1] for line in printed.split("\n")]
    text = re.sub(r"\x1b\[\??[0-9;]*[A-LN-Za-ln-z]", "", "\n".join(lines))  # cursor movements; colours end in m
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi("$ make demo ARGS=--once\n" + text.strip()))
    drawn = console.export_svg(title="make demo")
    drawn = re.sub(r"\s*@font-face \{.*?\}", "", drawn, flags=re.DOTALL)  # a picture that fetches nothing
    (ROOT / "docs" / "demo.svg").write_text(drawn)


if __name__ == "__main__":
    main()
