"""The one door to grafana-foundation-sdk.

Decides that the classic schema is used, which Grafana 10 to 13 load: the SDK warns of it when it is imported.
"""

from __future__ import annotations

import json
import warnings
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.builders import (
        common,
        dashboard,
        heatmap,
        prometheus,
        stat,
        statetimeline,
        table,
        tempo,
        timeseries,
    )
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models import common as common_models
    from grafana_foundation_sdk.models import dashboard as models
    from grafana_foundation_sdk.models import heatmap as heatmap_models
    from grafana_foundation_sdk.models.prometheus import PromQueryFormat
    from grafana_foundation_sdk.models.tempo import SearchTableType

__all__ = [
    "PromQueryFormat",
    "SearchTableType",
    "common",
    "common_models",
    "dashboard",
    "heatmap",
    "heatmap_models",
    "models",
    "plain",
    "prometheus",
    "stat",
    "statetimeline",
    "table",
    "tempo",
    "timeseries",
]

SCHEMA = 38
"""Of Grafana 10.0: a newer one brings it up to its own when it loads it, none can go back."""


def plain(built: models.Dashboard) -> dict[str, Any]:
    """The dashboard as JSON has it."""
    built.schema_version = SCHEMA
    made: dict[str, Any] = json.loads(json.dumps(built, cls=JSONEncoder))
    return made
