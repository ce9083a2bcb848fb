"""What the live tests ask for by name."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from typing import Any

import pytest

from tests.live.rig import STACKS, Stack


@pytest.fixture(params=STACKS, ids=lambda stack: f"{stack['loop']}-{stack['http']}")
def stack(request: Any) -> Stack:
    """The event loop and the parser that the server runs on; a test that asks for it runs once on each."""
    found: Stack = request.param
    return found


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process open a few thousand sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"this process may open no more than {hard} files")
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
