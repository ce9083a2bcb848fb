"""Set up the OpenTelemetry SDK and its exporters for a service that uses glasscache: `configure()`.

For Prometheus there are `metrics_app()` and `serve_metrics()`, whoever has set the SDK up. Decides nothing; the modules
beside it do. Needs the extra `exporters`.
"""

from __future__ import annotations

try:
    from glasscache_exporters._endpoint import metrics_app
    from glasscache_exporters._lifecycle import Exporters
    from glasscache_exporters._port import MetricsServer, serve_metrics
    from glasscache_exporters._setup import configure
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        f"glasscache_exporters needs {_error.name}: pip install 'glasscache[exporters]'",
        name=_error.name,
    ) from _error

__all__ = ["Exporters", "MetricsServer", "configure", "metrics_app", "serve_metrics"]
