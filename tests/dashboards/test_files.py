"""What users get: the committed files are what their source makes, and the package hands them out."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from glasscache.errors import ConfigurationError
from glasscache_dashboards import DASHBOARDS, FILES, alert_rules, dashboard, export
from glasscache_dashboards._source import sdk
from tests.dashboards import model

DOCS = Path(__file__).parents[2] / "docs"
FILE_NAMES = {*(f"grafana/{uid}.json" for uid in DASHBOARDS), "alerts/prometheus.yaml", "alerts/grafana.yaml"}


def run(module: str, *arguments: str | Path) -> str:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_committed_files_are_what_their_source_makes(tmp_path: Path) -> None:
    run("glasscache_dashboards._source", tmp_path)
    made = {path.relative_to(tmp_path).as_posix(): path.read_text("utf-8") for path in tmp_path.rglob("*.*")}
    assert set(made) == FILE_NAMES
    differing = [name for name, text in made.items() if (FILES / name).read_text("utf-8") != text]
    assert differing == [], "run make dashboards, and commit what it writes"


def test_nothing_else_lies_among_them() -> None:
    found = {path.relative_to(FILES).as_posix() for kind in ("json", "yaml") for path in FILES.rglob(f"*.{kind}")}
    assert found == FILE_NAMES


def test_a_dashboard_is_handed_out_as_the_api_of_grafana_takes_it() -> None:
    for uid in DASHBOARDS:
        assert dashboard(uid)["uid"] == uid
    with pytest.raises(ConfigurationError, match="dashboard\\('nonsense'\\): there are glasscache-overview, "):
        dashboard("nonsense")


def test_each_alert_links_to_the_runbook_that_the_user_serves() -> None:
    text = alert_rules("prometheus", runbook="https://wiki.example/cache")
    (group,) = yaml.safe_load(text)["groups"]
    for rule in group["rules"]:
        assert rule["annotations"]["runbook_url"] == f"https://wiki.example/cache#{rule['alert'].lower()}"
    with pytest.raises(ConfigurationError, match="alert_rules\\('nagios'\\): give prometheus or grafana"):
        alert_rules("nagios")  # type: ignore[arg-type]


def test_all_files_are_written_where_the_user_wants_them(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    said = run("glasscache_dashboards", folder, "--runbook", "https://wiki.example/cache")
    assert set(said.splitlines()) == {str(folder / name) for name in FILE_NAMES}
    for uid in DASHBOARDS:
        assert json.loads((folder / "grafana" / f"{uid}.json").read_text("utf-8")) == dashboard(uid)
    written = (folder / "alerts" / "grafana.yaml").read_text("utf-8")
    assert written == alert_rules("grafana", runbook="https://wiki.example/cache")


def test_a_folder_that_cannot_be_written_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    command = [sys.executable, "-m", "glasscache_dashboards", str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"{tmp_path / 'file'}: " in done.stderr
    assert done.stderr.endswith("; name a folder that you may write into\n")


def test_the_types_of_grafana_read_a_dashboard_and_write_the_same() -> None:
    for uid in DASHBOARDS:
        read = sdk.models.Dashboard.from_json(dashboard(uid))
        assert sdk.plain(read) == dashboard(uid)


def test_what_users_import_needs_nothing_that_only_the_source_needs(tmp_path: Path) -> None:
    code = "import sys, glasscache_dashboards; glasscache_dashboards.export(sys.argv[1]); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert not {"yaml", "grafana_foundation_sdk"} & set(done.stdout.split())
    assert (tmp_path / "alerts" / "prometheus.yaml").exists()


def test_the_page_about_them_counts_right_and_shows_what_is_there() -> None:
    text = (DOCS / "dashboards.md").read_text("utf-8")
    asked = re.findall(r"(\d+) expressions and (\d+) alerts", " ".join(text.split()))
    assert asked == [(str(len(list(model.targets()))), str(len(model.alerts())))]
    pictures = re.findall(r"\]\((dashboards/\w+\.png)\)", text)
    assert {Path(picture).stem for picture in pictures} == {uid.removeprefix("glasscache-") for uid in DASHBOARDS}
    assert [picture for picture in pictures if not (DOCS / picture).exists()] == []


def test_an_export_as_it_is_links_to_the_docs(tmp_path: Path) -> None:
    assert len(export(tmp_path)) == len(FILE_NAMES)
    assert "runbook_url: docs/runbook.md#glasscachesilent" in (tmp_path / "alerts" / "grafana.yaml").read_text("utf-8")
