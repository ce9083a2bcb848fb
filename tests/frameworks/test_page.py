"""docs/frameworks.md is what the table says."""

from __future__ import annotations

import pytest

from tests.frameworks.page import PAGE, page
from tests.frameworks.servers import SERVERS
from tests.frameworks.table import FRAMEWORKS, Framework


def test_the_page_is_what_the_table_generates() -> None:
    assert PAGE.read_text("utf-8") == page(), "run: python -m tests.frameworks.page"


def test_the_page_shows_every_cell() -> None:
    rows = [line for line in page().splitlines() if line.startswith("| ") and not line.startswith("| |")]
    assert [row.count(" | ") for row in rows] == [len(SERVERS)] * len(FRAMEWORKS)


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=[framework.id for framework in FRAMEWORKS])
def test_the_page_links_to_examples_that_there_are(framework: Framework) -> None:
    assert (PAGE.parents[1] / "examples" / "frameworks" / f"{framework.id}_app.py").is_file()
