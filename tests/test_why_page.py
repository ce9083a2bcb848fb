"""docs/why.md says of each reason what `glasscache why`, the log and the live page say."""

from __future__ import annotations

import re
from pathlib import Path

from glasscache.asgi._why import BYPASSED, UNSTORED

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "why.md").read_text("utf-8")


def test_the_page_has_every_reason_in_the_same_words() -> None:
    past, _, unstored = PAGE.partition("## Answers that were not stored")
    rows = [dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", part, re.MULTILINE)) for part in (past, unstored)]
    assert [row.pop("detail") for row in rows] == ["the request", "the answer"]
    assert rows == [BYPASSED, UNSTORED]
