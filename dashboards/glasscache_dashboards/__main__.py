"""Write the dashboards and alert rules into a folder: `python -m glasscache_dashboards FOLDER [--runbook URL]`."""

from __future__ import annotations

import argparse
import sys

from glasscache_dashboards import export


def main() -> None:
    """Write them, and say what was written."""
    parser = argparse.ArgumentParser(
        prog="python -m glasscache_dashboards", description="Write all files into a folder."
    )
    parser.add_argument("folder", help="where to; it is made if need be")
    parser.add_argument("--runbook", help="the address under which you serve docs/runbook.md", metavar="URL")
    asked = parser.parse_args()
    try:
        written = export(asked.folder, runbook=asked.runbook)
    except OSError as error:
        parser.error(f"{asked.folder}: {error}; name a folder that you may write into")
    for path in written:
        sys.stdout.write(f"{path}\n")


main()
