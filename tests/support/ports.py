"""Ports of 127.0.0.1 for servers that must be told one.

Decides how a port is kept for a test while nothing listens on it: before its server has started, and while it is down.
Never: gives out a port that another process, or a connection, may take in between.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


def reserve(port: int = 0) -> socket.socket:
    """Keep a port (a free one) until the socket is closed; a server with SO_REUSEADDR, as all have, may listen on it.

    Raises `OSError` if somebody has it, be it reserved only: the option is set when the port is ours.
    """
    reservation = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        reservation.bind(("127.0.0.1", port))
    except BaseException:
        reservation.close()
        raise
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return reservation


@contextmanager
def free_port() -> Iterator[int]:
    """A port that nobody else is given while the block runs."""
    with reserve() as reservation:
        yield reservation.getsockname()[1]


@contextmanager
def free_ports(count: int) -> Iterator[int]:
    """The first of so many ports side by side that nobody else is given while the block runs."""
    for _ in range(1_000):
        with free_port() as first, ExitStack() as stack:
            try:
                for port in range(first + 1, first + count):
                    stack.enter_context(reserve(port))
            except (OSError, OverflowError):
                continue
            yield first
            return
    raise AssertionError(f"no {count} free ports side by side")
