"""The name of a process, which tells it from all others that share a tier.

Decides that the child of a fork is another one: `gunicorn --preload` makes a store before it forks its workers.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable
from weakref import WeakSet


def _nobody(name: str) -> None:
    """Told of a new name, where nobody has to know."""


class Machine:
    """This process. `told`: called with its name, now and in every child of a fork."""

    def __init__(self, told: Callable[[str], None] = _nobody) -> None:
        self._told = told
        self.take_name()
        _all.add(self)

    def take_name(self) -> None:
        """That of the running process."""
        self.name: str = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._told(self.name)


_all: WeakSet[Machine] = WeakSet()


def _forked() -> None:
    for machine in _all:
        machine.take_name()


# Windows does not fork.
getattr(os, "register_at_fork", lambda **_: None)(after_in_child=_forked)
