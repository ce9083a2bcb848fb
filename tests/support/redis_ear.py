"""What a server is told to do, from MONITOR: when, and which command, those of scripts included."""

from __future__ import annotations

import threading
from typing import Self

import redis

from tests.support.redis_process import WAITS_FOR_EVER, RedisProcess


class Ear:
    """Hears everything while its block runs."""

    def __init__(self, server: RedisProcess) -> None:
        self.heard: list[tuple[float, str]] = []
        self._client = redis.Redis(port=server.port, decode_responses=True, **WAITS_FOR_EVER)
        self._monitor = self._client.monitor()  # type: ignore[no-untyped-call]
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._server = server

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.do("PING", "the end")
        self._thread.join()
        self._client.close()

    def _listen(self) -> None:
        with self._monitor as monitor:
            self._ready.set()
            for told in monitor.listen():
                self.heard.append((told["time"], told["command"]))
                if told["command"] == "PING the end":
                    return

    def commands(self, word: str) -> list[tuple[float, str]]:
        """Those that begin with the word."""
        return [(at, command) for at, command in self.heard if command.startswith(word)]
