"""Grafana dashboards and alert rules for what glasscache tells.

Decides how they are found and handed out; they are made by `_source`, which is not part of the wheel. Needs nothing
beside the standard library.

    python -m glasscache_dashboards FOLDER
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, Literal

from glasscache.errors import ConfigurationError

__all__ = ["DASHBOARDS", "FILES", "alert_rules", "dashboard", "export"]

FILES: Final[Path] = Path(__file__).parent
"""The folder that holds `grafana/` (dashboards) and `alerts/`."""
DASHBOARDS: Final = ("glasscache-overview", "glasscache-contention", "glasscache-tiers", "glasscache-capacity")
"""The uids of the dashboards: each is `grafana/{uid}.json`."""
_RUNBOOK = "docs/runbook.md"


def dashboard(uid: str) -> dict[str, Any]:
    """The dashboard as Grafana's API takes it. ConfigurationError for a uid that is none of `DASHBOARDS`."""
    if uid not in DASHBOARDS:
        raise ConfigurationError(f"dashboard({uid!r}): there are {', '.join(DASHBOARDS)}")
    model: dict[str, Any] = json.loads(_path(uid).read_text("utf-8"))
    return model


def alert_rules(kind: Literal["prometheus", "grafana"], *, runbook: str | None = None) -> str:
    """The alerts as YAML: a rule file of Prometheus, or what Grafana provisions.

    `runbook`: the address under which you serve docs/runbook.md; each alert links to its section there.
    ConfigurationError for another kind.
    """
    if kind not in ("prometheus", "grafana"):
        raise ConfigurationError(f"alert_rules({kind!r}): give prometheus or grafana")
    text = (FILES / "alerts" / f"{kind}.yaml").read_text("utf-8")
    return text if runbook is None else text.replace(f"{_RUNBOOK}#", f"{runbook}#")


def export(folder: str | Path, *, runbook: str | None = None) -> list[Path]:
    """Write all files below `folder`, which is made if need be; what was written. Raises OSError if it cannot."""
    target = Path(folder)
    texts = {f"grafana/{uid}.json": _path(uid).read_text("utf-8") for uid in DASHBOARDS}
    texts["alerts/prometheus.yaml"] = alert_rules("prometheus", runbook=runbook)
    texts["alerts/grafana.yaml"] = alert_rules("grafana", runbook=runbook)
    written = []
    for name, text in texts.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        written.append(path)
    return written


def _path(uid: str) -> Path:
    return FILES / "grafana" / f"{uid}.json"
