"""The cache in front of any HTTP service: `glasscache proxy`, or its parts for an app of your own.

app = Edge(CacheMiddleware(ReverseProxy("http://127.0.0.1:8000"), rules=[Rule("/api/*", ttl=60)]))
"""

from __future__ import annotations

from glasscache.proxy.app import ReverseProxy
from glasscache.proxy.edge import Edge
from glasscache.proxy.errors import ProxyError
from glasscache.proxy.upstream import Timeouts

__all__ = ["Edge", "ProxyError", "ReverseProxy", "Timeouts"]
