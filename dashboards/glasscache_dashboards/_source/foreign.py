"""Metrics beside ours that the dashboards show: redis-py's own (8.1, `redis.observability`) and redis_exporter's.

Decides their names, as these programs give them; `make dashboards-check` asks the real ones.
"""

from __future__ import annotations

from typing import Final

from glasscache.otel import Metric
from glasscache_dashboards._source.promql import DASHBOARD, INSTANCE, JOB, Lens

COMMAND: Final = "db.operation.name"
CONNECTION_STATE: Final = "db.client.connection.state"
ERROR: Final = "error.type"

CLIENT: Final = Lens(fixed=DASHBOARD.fixed[:2], window=DASHBOARD.window)
"""redis-py knows no cache: its metrics are those of the process."""
CLIENT_OPERATIONS: Final = Metric(
    "db.client.operation.duration", "histogram", "s", "Time of a command.", (COMMAND, ERROR)
)
CLIENT_CONNECTIONS: Final = Metric(
    "db.client.connection.count", "observable_up_down_counter", "{connection}", "Connections.", (CONNECTION_STATE,)
)
CLIENT_ERRORS: Final = Metric("redis.client.errors", "counter", "{error}", "Errors, handled or not.", (ERROR,))

SERVER: Final = Lens(fixed=(f'{INSTANCE}=~"$redis"',), window=DASHBOARD.window)
"""redis_exporter is a job of its own: the variable `redis` chooses among its instances."""
UP: Final = Metric("redis.up", "observable_up_down_counter", "1", "Whether the server answers.", (INSTANCE, JOB))
CLIENTS: Final = Metric(
    "redis.connected.clients", "observable_up_down_counter", "{client}", "Connected clients.", (INSTANCE,)
)
COMMANDS: Final = Metric("redis.commands.processed", "counter", "{command}", "Commands.", (INSTANCE,))
USED: Final = Metric("redis.memory.used", "observable_up_down_counter", "By", "Memory used.", (INSTANCE,))
MOST: Final = Metric("redis.memory.max", "observable_up_down_counter", "By", "Memory allowed.", (INSTANCE,))
EVICTED: Final = Metric("redis.evicted.keys", "counter", "{key}", "Keys that had to go for want of room.", (INSTANCE,))
EXPIRED: Final = Metric("redis.expired.keys", "counter", "{key}", "Keys whose time was up.", (INSTANCE,))
