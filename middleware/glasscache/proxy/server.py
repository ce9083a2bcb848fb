"""The server of `glasscache proxy`: uvicorn, set up so that it adds nothing to what the upstream says.

Decides uvicorn's settings. Date and Server are the upstream's; what a client says of itself is not believed here.
"""

from __future__ import annotations

import uvicorn

from glasscache.asgi.types import ASGIApp


def serve(app: ASGIApp, *, host: str, port: int, access_log: bool = False) -> None:
    """Serve until the process is told to end (SIGINT, SIGTERM)."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http="httptools",
        ws="none",
        lifespan="on",
        date_header=False,
        server_header=False,
        proxy_headers=False,
        access_log=access_log,
        log_level="warning" if not access_log else "info",
    )
    uvicorn.Server(config).run()
