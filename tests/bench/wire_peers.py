"""What uvicorn serves of the peers, in their environment: `python -m tests.bench.wire_peers NAME PORT`."""

from __future__ import annotations

import asyncio
import sys

import uvicorn

from tests.bench.peer_apps import CACHES, Origin
from tests.bench.traffic import App


def main(name: str, port: int) -> None:
    """Serve one of them as `wire_apps` serves ours."""

    async def build() -> App:
        return await CACHES[name](Origin())

    app = asyncio.run(build())
    uvicorn.run(app, host="127.0.0.1", port=port, loop="uvloop", http="httptools", access_log=False, log_level="error")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
