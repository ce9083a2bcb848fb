"""docs/production.md keeps its word: its server starts, its addresses are taken, and a cache works with the two."""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from glasscache import Cache, RedisStore
from glasscache._variables import VARIABLES
from glasscache.settings import Settings
from glasscache.stats import stats
from tests.support.patience import PATIENCE
from tests.support.ports import free_port
from tests.support.redis_process import UNHURRIED_VARIABLES, least, server_binary

pytestmark = pytest.mark.usefixtures("no_leaks")

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "production.md").read_text("utf-8")
KEY = "the-same-secret-of-32-characters-on-every-machine"


def blocks(language: str) -> list[str]:
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return found


def environment(block: str) -> dict[str, str]:
    """The variables that a block sets."""
    return dict(line.split("=", 1) for line in block.splitlines() if re.match(r"[A-Z_]+=", line))


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A server with the lines of the page, on IPv4 and IPv6."""
    folder = tmp_path_factory.mktemp("production")
    (lines,) = blocks("conf")
    (folder / "conf").write_text(lines)
    with free_port() as port, (folder / "log").open("wb") as log:
        command = [server_binary(), str(folder / "conf"), "--bind", "127.0.0.1", "-::1", "--port", str(port)]
        process = subprocess.Popen([*command, "--dir", str(folder)], stdout=log, stderr=log)
        yield from served(port, process, folder)


def served(port: int, process: subprocess.Popen[bytes], folder: Path) -> Iterator[int]:
    """Its port, when it is ready."""
    try:
        deadline = time.monotonic() + PATIENCE
        while b"Ready to accept connections" not in (folder / "log").read_bytes():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.01)
        yield port
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_the_first_set_of_variables_and_the_server_of_the_page_are_two_machines_that_load_once(
    port: int, host: str
) -> None:
    variables = environment(blocks("sh")[0]) | UNHURRIED_VARIABLES
    variables["REDIS_URL"] = variables["REDIS_URL"].replace("redis.example:6379", f"{host}:{port}")

    async def scenario() -> None:
        loads = 0

        async def load() -> str:
            nonlocal loads
            loads += 1
            return "answer"

        machines = [Settings.from_env(variables).cache() for _ in range(2)]
        try:
            for machine in machines:
                async with asyncio.timeout(PATIENCE):
                    while not machine._engine._state.coherence.in_step:
                        await machine.get_or_load("first", load)
                        await asyncio.sleep(0.01)
            loads = 0
            for machine in machines:
                assert await machine.get_or_load(f"question to {host}", load) == "answer"
                await asyncio.sleep(0.1)
                assert stats(machine)["tiers"] == {"redis": "ok"}
            assert loads == 1
        finally:
            for machine in machines:
                await machine.aclose()

    asyncio.run(scenario())


@pytest.mark.parametrize("block", blocks("sh")[1:])
def test_every_other_set_of_variables_makes_a_cache(block: str) -> None:
    region = environment(block.replace("$FLY_REGION", "fra"))
    Settings.from_env(region | {"GLASSCACHE_KEY": KEY}).cache()


def addresses() -> list[str]:
    return [url for url in re.findall(r"\| `([a-z+]+://[^`]+)` \|", PAGE) if "…" not in url]


@pytest.mark.parametrize("url", addresses())
def test_every_address_of_the_page_is_taken(url: str) -> None:
    variables = {"CACHE_TYPE": "hybrid", "GLASSCACHE_KEY": KEY, "REDIS_URL": url}
    Settings.from_env(variables).cache()
    assert "password" not in repr(RedisStore.from_url(url))


def test_there_are_addresses_on_the_page() -> None:
    assert len(addresses()) == 6


def test_the_client_of_the_page_is_one_that_a_cache_may_use() -> None:
    (code,) = blocks("python")
    names: dict[str, object] = {}
    exec(compile(code, "production.md", "exec"), names)  # noqa: S102 - our own page
    assert isinstance(names["cache"], Cache)


def test_the_user_of_the_page_may_do_what_the_page_on_acl_lists() -> None:
    (lines,) = blocks("conf")
    allowed = set(re.findall(r"\+[a-z|]+", lines))
    assert allowed == set(least()) - {"+command", "+cluster|slots"}


def test_every_setting_of_the_page_is_one() -> None:
    named = set(re.findall(r"\b(?:CACHE|REDIS|GLASSCACHE)_[A-Z_]+\b", PAGE))
    assert named - set(VARIABLES) == set()
