"""TLS to a server: with a certificate that can be checked, and never without."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from glasscache._lease import Claim
from glasscache.errors import StoreError
from glasscache.stores.redis import RedisStore
from tests.support.certificates import certificate
from tests.support.chaos_proxy import ChaosProxy
from tests.support.redis_process import UNHURRIED, RedisProcess

pytestmark = pytest.mark.usefixtures("no_leaks")


def test_a_server_is_reached_by_tls_if_its_certificate_can_be_checked(tmp_path: Path) -> None:
    async def scenario() -> None:
        trusted, context = certificate(tmp_path, "trusted")
        other, _ = certificate(tmp_path, "other")
        with RedisProcess(tmp_path) as server:
            async with ChaosProxy(server.port, tls=context) as proxy:
                url = f"rediss://127.0.0.1:{proxy.port}?ssl_ca_certs="
                for file, works in ((trusted, True), (other, False)):
                    store = RedisStore.from_url(f"{url}{file}", prefix="p", **UNHURRIED)
                    try:
                        if works:
                            assert (await store.look(b"k", Claim())).lease is not None
                        else:
                            with pytest.raises(StoreError, match="certificate verify failed"):
                                await store.look(b"k", Claim())
                    finally:
                        await store.aclose()

    asyncio.run(scenario())
