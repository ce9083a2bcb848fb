"""Writes docs/frameworks.md from the table: `python -m tests.frameworks.page`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.frameworks.contract import RUNNING, STOPPED
from tests.frameworks.servers import SERVERS, Server
from tests.frameworks.table import EXEMPTIONS, FRAMEWORKS, Framework, exempt

PAGE = Path(__file__).parents[2] / "docs" / "frameworks.md"
FEATURES = {**RUNNING, **STOPPED}


def page() -> str:
    """The page's text."""
    return "\n".join([*_matrix(), *_contract(), *_exemptions(), *_mounting()])


def _matrix() -> Iterator[str]:
    yield "# Frameworks and servers"
    yield ""
    yield "<!-- Written by `python -m tests.frameworks.page` from tests/frameworks/table.py; a test compares them. -->"
    yield ""
    yield "One contract is tested in each of these cells, on a real server started by its command line. A number says"
    yield f"how many of its {len(FEATURES)} points hold; the others are explained below, and the test proves that they"
    yield "do not hold."
    yield ""
    yield "| | " + " | ".join(server.title for server in SERVERS) + " |"
    yield "|---|" + "---|" * len(SERVERS)
    for framework in FRAMEWORKS:
        yield f"| {framework.title} | " + " | ".join(_cell(framework, server) for server in SERVERS) + " |"
    yield ""


def _cell(framework: Framework, server: Server) -> str:
    missing = exempt(framework, server)
    if not missing:
        return "all"
    numbers = sorted({EXEMPTIONS.index(exemption) + 1 for exemption in missing.values()})
    return f"{len(FEATURES) - len(missing)} " + " ".join(f"[{number}](#exceptions)" for number in numbers)


def _contract() -> Iterator[str]:
    yield "## The contract"
    yield ""
    for name, check in FEATURES.items():
        yield f"- **{name.replace('_', ' ')}**: {check.__doc__}"
    yield ""


def _exemptions() -> Iterator[str]:
    yield "## Exceptions"
    yield ""
    for number, exemption in enumerate(EXEMPTIONS, 1):
        yield f"{number}. {', '.join(exemption.features)}: {exemption.reason}"
    yield ""


def _mounting() -> Iterator[str]:
    yield "## Where the cache goes"
    yield ""
    for framework in FRAMEWORKS:
        yield f"- **{framework.title}** ([example](../examples/frameworks/{framework.id}_app.py)): {framework.mounting}"
        yield from (f"  {note}" for note in framework.notes)
    yield ""
    yield "Where in the stack, and what happens elsewhere: [order.md](order.md)."
    yield ""


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
