"""Where the upstream is, and how long it may take. Refuses what cannot work when it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from urllib.parse import urlsplit

from glasscache.errors import ConfigurationError

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds. `connect`: to get a connection. `read`: without a byte from the upstream. `write`: without taking one.
    `keep_alive`: how long a connection rests before it is closed; below what the upstream allows (Node, uvicorn: 5),
    so that a request seldom meets a connection that is just being closed; 0: one connection for each request.
    """

    connect: float = 5.0
    read: float = 60.0
    write: float = 60.0
    keep_alive: float = 4.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value < math.inf or (value == 0 and field.name != "keep_alive"):
                raise ConfigurationError(f"Timeouts({field.name}={value!r}): give a finite number of seconds above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """Where the service behind a proxy is."""

    scheme: str
    host: str
    port: int
    prefix: str
    """Goes before every path; without a slash at its end."""

    @classmethod
    def from_url(cls, url: str) -> Upstream:
        """From `http://host:port/prefix` or https. ConfigurationError for anything else."""
        problem = f"upstream {url!r}: "
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ConfigurationError(f"{problem}{error}; give a URL such as http://127.0.0.1:8000") from None
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ConfigurationError(f"{problem}give a URL such as http://127.0.0.1:8000 or https://example.com/api")
        if parts.username is not None or parts.query or parts.fragment:
            raise ConfigurationError(f"{problem}leave out user, password, query and fragment: they cannot be passed on")
        return cls(
            scheme=parts.scheme,
            host=parts.hostname,
            port=_PORTS[parts.scheme] if port is None else port,
            prefix=parts.path.rstrip("/"),
        )

    @property
    def authority(self) -> bytes:
        """Host and port as the field `Host` has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}").encode(
            "idna" if host.isascii() is False else "ascii"
        )

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority.decode()}{self.prefix}"
