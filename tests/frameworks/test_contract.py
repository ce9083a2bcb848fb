"""The contract over every framework on every server, each cell on a server process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from tests.frameworks.cell import Cell, Check
from tests.frameworks.contract import RUNNING, STOPPED
from tests.frameworks.servers import SERVERS, Server, serving
from tests.frameworks.table import EXEMPTIONS, FRAMEWORKS, Exemption, Framework, exempt
from tests.support.patience import PATIENCE
from tests.support.servers import RawConnection

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.mark.parametrize("server", SERVERS, ids=[server.id for server in SERVERS])
@pytest.mark.parametrize("framework", FRAMEWORKS, ids=[framework.id for framework in FRAMEWORKS])
def test_the_contract_holds_but_for_what_the_table_exempts(
    framework: Framework, server: Server, tmp_path: Path
) -> None:
    exempted, told = exempt(framework, server), tmp_path / "told.txt"

    async def scenario() -> None:
        async with serving(server, framework.app, tmp_path, told) as port:
            cell = Cell(port, told)
            await hold(cell, RUNNING, exempted)
            for exemption in {id(one): one for one in exempted.values()}.values():
                await exemption.instead(cell)
        await hold(cell, STOPPED, exempted)

    asyncio.run(scenario())


async def hold(cell: Cell, checks: Mapping[str, Check], exempted: Container[str]) -> None:
    """Run all checks; raise what failed, and what was to fail and did not."""
    failures: list[Exception] = []
    for feature, check in checks.items():
        failure = await failure_of(check, cell)
        if feature in exempted:
            failure = None if isinstance(failure, AssertionError) else failure or Exception("exempted, but it holds")
        if failure is not None:
            failure.add_note(f"feature: {feature}")
            failures.append(failure)
    if failures:
        raise ExceptionGroup("the contract does not hold", failures)


async def failure_of(check: Check, cell: Cell) -> Exception | None:
    try:
        await check(cell)
    except Exception as failure:
        return failure
    return None


def test_a_test_that_fails_leaves_no_server_behind_and_shows_what_it_said(tmp_path: Path) -> None:
    [server] = [server for server in SERVERS if server.id == "granian"]  # the one with a worker process

    async def scenario() -> int:
        port = 0
        with pytest.raises(ZeroDivisionError) as failure:
            async with serving(server, FRAMEWORKS[-1].app, tmp_path, tmp_path / "told.txt") as port:
                raise ZeroDivisionError
        assert "The server said" in failure.value.__notes__[0]
        await until_closed(port)
        return port

    assert asyncio.run(scenario())


async def until_closed(port: int) -> None:
    async with asyncio.timeout(PATIENCE):
        with suppress(ConnectionError):  # refused; or reset, by a worker that is being killed
            while True:
                async with RawConnection(port):
                    await asyncio.sleep(0.01)


@pytest.mark.parametrize("exemption", EXEMPTIONS, ids=lambda one: f"{one.framework}-{one.server}")
def test_every_exemption_is_about_a_framework_a_server_and_features_that_there_are(exemption: Exemption) -> None:
    assert exemption.framework in {None, *(framework.id for framework in FRAMEWORKS)}
    assert exemption.server in {None, *(server.id for server in SERVERS)}
    assert set(exemption.features) <= {*RUNNING, *STOPPED}
