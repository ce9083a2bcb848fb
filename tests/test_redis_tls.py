"""TLS to a server: with a certificate that can be checked, and never without."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from glasscache._clock import SystemClock
from glasscache._lease import Claim
from glasscache.errors import StoreError
from glasscache.stores.redis import RedisStore
from tests.support.chaos_proxy import ChaosProxy
from tests.support.redis_process import RedisProcess

pytestmark = pytest.mark.usefixtures("no_leaks")


def certificate(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """One that vouches for itself, for 127.0.0.1: its file, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.fromtimestamp(SystemClock().wall(), datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / f"{name}.crt", folder / f"{name}.key"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return public, context


def test_a_server_is_reached_by_tls_if_its_certificate_can_be_checked(tmp_path: Path) -> None:
    async def scenario() -> None:
        trusted, context = certificate(tmp_path, "trusted")
        other, _ = certificate(tmp_path, "other")
        with RedisProcess(tmp_path) as server:
            async with ChaosProxy(server.port, tls=context) as proxy:
                url = f"rediss://127.0.0.1:{proxy.port}?ssl_ca_certs="
                for file, works in ((trusted, True), (other, False)):
                    store = RedisStore.from_url(f"{url}{file}", prefix="p", timeout=5.0, connect_timeout=5.0)
                    try:
                        if works:
                            assert (await store.look(b"k", Claim())).lease is not None
                        else:
                            with pytest.raises(StoreError, match="certificate verify failed"):
                                await store.look(b"k", Claim())
                    finally:
                        await store.aclose()

    asyncio.run(scenario())
