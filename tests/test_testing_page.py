"""docs/testing.md keeps its word: its app and its tests are written down, and pytest runs them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "testing.md").read_text("utf-8")
FILES: dict[str, str] = dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


def test_the_tests_on_the_page_pass_and_fail_where_the_cache_is_off(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, "utf-8")
    assert sorted(FILES) == ["shop.py", "test_shop.py"]
    with_cache = pytest_in(tmp_path, "true")
    assert "3 passed" in with_cache
    without = pytest_in(tmp_path, "false")
    assert "3 failed" in without


def pytest_in(folder: Path, enabled: str) -> str:
    """What pytest says of the tests in a folder."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:cov", "-p", "no:xdist"]
    environment = {"PATH": "", "GLASSCACHE_ENABLED": enabled}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False).stdout
