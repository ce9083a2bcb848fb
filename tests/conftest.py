"""What every test stands on: hypothesis profiles; a check for leaks and a Redis server for the test that asks for it.

Decides: that tests are deterministic, unless GLASSCACHE_SOAK=1 asks for new examples and more of them; how many run at
once; which run without coverage (`no_cover`: tracing takes most of their time, and the others reach 100 %).
Never: does anything around a test that did not ask for it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings

from tests.support.leaks import leak_check

if TYPE_CHECKING:
    from tests.support.redis_process import RedisProcess

# A shell without job control starts what it puts into the background with SIGINT ignored, and every process under it
# would stay deaf to the Ctrl-C of our tests.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("default", _UNHURRIED, derandomize=True)
settings.register_profile("soak", _UNHURRIED, max_examples=2_000)
settings.load_profile("soak" if os.environ.get("GLASSCACHE_SOAK") == "1" else "default")


def pytest_configure(config: pytest.Config) -> None:
    """Coverage would import the package above a dotted name, and throw that away, in each process that tests start."""
    for name in config.getoption("cov_source", None) or ():
        if "." in str(name) and os.sep not in str(name):
            raise pytest.UsageError(f"--cov={name}: give the folder, such as --cov=middleware/glasscache/asgi")


@pytest.hookimpl(optionalhook=True)  # `make package` tests without xdist
def pytest_xdist_auto_num_workers() -> int:
    """One more than processors: a fifth of the time tests wait for servers, processes and their deadlines."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """`no_cover` holds for the processes that a test starts, too."""
    if item.get_closest_marker("no_cover") is None:
        return (yield)
    with patch.dict(os.environ):
        os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
        return (yield)


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """Fail a test that leaves a pending asyncio task or a living thread of its own behind.

    For a whole module: `pytestmark = pytest.mark.usefixtures("no_leaks")`.
    """
    with leak_check():
        yield


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    """A server of Redis, for a module whose tests need nothing else of it."""
    from tests.support.redis_process import RedisProcess  # noqa: PLC0415 - other tests run where there is no redis-py

    with RedisProcess(tmp_path_factory.mktemp("redis")) as process:
        yield process
