"""How late the machine was by itself while the suite ran, which counts in seconds and asks a hundred things at once.

Decides from when on a surprise may be the machine's. Must never make a surprise less where the machine was in time.
"""

from __future__ import annotations

import http.client
import threading
import time
from contextlib import suppress
from itertools import count
from typing import Self

LATE = 0.3
"""Seconds that an answer may take, of the one or two that the suite's shortest lives have. On a quiet machine it is a
tenth."""
_EVERY = 0.05  # seconds
_GIVEN_UP = 10.0  # seconds: late enough


class Lateness:
    """While its block runs, asks the origin through the cache; `worst`: seconds until it had an answer, at worst."""

    def __init__(self, port: int) -> None:
        self.worst = 0.0
        self._port = port
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="lateness")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        for number in count():
            began = time.monotonic()
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_GIVEN_UP)
            with suppress(OSError, http.client.HTTPException):
                connection.request("GET", f"/?late={number}")
                connection.getresponse().read()
            connection.close()
            self.worst = max(self.worst, time.monotonic() - began)
            if self._over.wait(_EVERY):
                return
