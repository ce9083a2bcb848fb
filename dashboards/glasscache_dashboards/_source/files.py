"""Every file that is committed, by name and content."""

from __future__ import annotations

import json
from pathlib import Path

from glasscache_dashboards._source import capacity, contention, overview, rules, tiers

BOARDS = (overview.board, contention.board, tiers.board, capacity.board)


def files() -> dict[str, str]:
    """Path below the package -> content."""
    made = {}
    for board in BOARDS:
        model = board().build()
        made[f"grafana/{model['uid']}.json"] = json.dumps(model, indent=2, ensure_ascii=False) + "\n"
    made["alerts/prometheus.yaml"] = rules.prometheus()
    made["alerts/grafana.yaml"] = rules.grafana()
    return made


def write(folder: Path) -> None:
    """All of them, into this folder."""
    for name, text in files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
