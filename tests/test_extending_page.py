"""docs/extending.md keeps its word: its store, codec and key are written down, and pass the contracts that it names."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from glasscache import interfaces, stores, testing

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "extending.md").read_text("utf-8")
FILES: dict[str, str] = dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


def test_what_the_page_has_passes_its_contracts(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:cov", "-p", "no:xdist"]
    done = subprocess.run(command, cwd=tmp_path, env={"PATH": ""}, capture_output=True, text=True, check=False)
    assert re.search(r"^\d\d passed", done.stdout, re.MULTILINE), done.stdout


def test_every_protocol_and_contract_that_it_names_is_there() -> None:
    row = re.compile(r"^\| [^|]+ \| ([^|]+) \| [^|]+ \| ([^|]*) \|$", re.MULTILINE)
    rows = row.findall(PAGE)[1:]
    assert {name for has, _ in rows for name in re.findall(r"`([A-Z]\w+)`", has)} <= set(interfaces.__all__)
    assert {name for _, names in rows for name in re.findall(r"`(\w+)`", names)} == {
        name for name in testing.__all__ if name.endswith("Contract")
    }


def test_what_stores_are_written_with_is_found_by_its_public_name() -> None:
    assert stores.Envelope().seal(b"key", testing.entry())
    assert issubclass(stores.EnvelopeError, interfaces.StoreError)
    assert not hasattr(stores, "envelope")
    with pytest.raises(AttributeError, match="has no attribute 'envelope'"):
        stores.__getattr__("envelope")
