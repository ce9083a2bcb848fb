"""Where uvicorn's own log goes: to stdout, apart from all others.

A handler's error passes through the cache to the server, which logs it with its message and traceback, as it would
without a cache: that is the server's word, not ours.
"""

from __future__ import annotations

from typing import Any

CONFIG: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"server": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}},
    "loggers": {"uvicorn": {"handlers": ["server"], "level": "INFO", "propagate": False}},
}
