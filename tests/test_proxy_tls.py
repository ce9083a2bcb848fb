"""An https upstream: reached if its certificate can be checked, and never without."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from glasscache.proxy import ProxyError, ReverseProxy
from tests.proxy.upstream import answering, upstream
from tests.support.asgi import Client
from tests.support.certificates import certificate

pytestmark = pytest.mark.usefixtures("no_leaks")

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole"


def test_an_https_upstream_is_asked_if_its_certificate_can_be_checked(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        trusted, context = certificate(tmp_path, "trusted")
        other, _ = certificate(tmp_path, "other")
        async with upstream(answering(WHOLE), tls=context) as origin:
            proxy = ReverseProxy(origin.url, tls=ssl.create_default_context(cafile=trusted))
            for _ in range(2):
                assert (await Client(proxy).request("GET", "/")).body == b"whole"
            assert origin.connections == 1
            proxy.close()
            for tls in (ssl.create_default_context(cafile=other), None):
                with pytest.raises(ProxyError, match="certificate verify failed") as told:
                    await Client(ReverseProxy(origin.url, tls=tls)).request("GET", "/")
                assert told.value.status == 502

    asyncio.run(scenario())
