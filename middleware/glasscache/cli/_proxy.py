"""`glasscache proxy`: the cache in front of any HTTP service.

Decides how the layers are stacked, and what is said of them when they stand.
"""

from __future__ import annotations

import argparse
import logging
import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from glasscache.asgi import CacheMiddleware
from glasscache.cli._config import ProxyConfig, config_of
from glasscache.cli._describe import describe
from glasscache.errors import ConfigurationError, MissingExtraError
from glasscache.settings import Settings

if TYPE_CHECKING:
    from glasscache.asgi.types import ASGIApp


def run(options: argparse.Namespace) -> int:
    """Serve until told to end."""
    config, settings = config_of(options), Settings.from_env()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with ExitStack() as stack:
        if config.telemetry:
            stack.callback(_telemetry())
        app, serve = application(config, settings), _server()
        listener = stack.enter_context(_listen(config))
        host, port = listener.getsockname()[:2]
        where = f"[{host}]" if ":" in host else host
        print(f"glasscache: http://{where}:{port} -> {config.upstream}; {describe(settings)}", flush=True)
        serve(app, listener, access_log=config.access_log)
    return 0


def application(config: ProxyConfig, settings: Settings) -> ASGIApp:
    """Edge, cache, proxy. ConfigurationError for what cannot work."""
    if config.upstream is None:
        raise ConfigurationError("--upstream: say which service, such as --upstream http://127.0.0.1:8000")
    try:
        from glasscache.proxy import Edge, ReverseProxy, Timeouts  # noqa: PLC0415 - only this command needs the extra
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    proxy = ReverseProxy(
        config.upstream,
        timeouts=Timeouts(connect=config.connect_timeout, read=config.read_timeout, keep_alive=config.keep_alive),
        max_connections=config.max_connections,
        keep_host=config.keep_host,
        trust_forwarded=config.trust_forwarded,
        tls=config.tls(),
    )
    return Edge(CacheMiddleware(proxy, cache=settings.cache(), rules=config.rules or None))


def _server() -> Callable[..., None]:
    try:
        from glasscache.proxy.server import serve  # noqa: PLC0415 - as above
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    return serve


def _missing(error: ModuleNotFoundError) -> MissingExtraError:
    return MissingExtraError(f"{error}: the proxy needs it, pip install 'glasscache[proxy]'")


def _listen(config: ProxyConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        return socket.create_server((config.host, config.port), family=family, backlog=2048)
    except OSError as error:
        what = f"--host {config.host} --port {config.port}"
        raise ConfigurationError(f"{what}: {error.strerror or error}; choose another address or port") from None


def _telemetry() -> Callable[[], object]:
    try:
        from glasscache_exporters import configure  # noqa: PLC0415 - only who uses it needs the extra
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{error}; --telemetry cannot do without") from error
    return configure(service_name="glasscache-proxy").shutdown
