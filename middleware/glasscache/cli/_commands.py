"""The small commands: each one function of its arguments, which returns the exit status."""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from glasscache._coherence import variant_tag
from glasscache._entry import Key
from glasscache.asgi import CacheMiddleware
from glasscache.asgi._removal import digest_of
from glasscache.cli._config import ProxyConfig, config_of
from glasscache.cli._describe import describe, size, without_password
from glasscache.cli._page import PATIENCE, fetch, token_of, warn_of_others
from glasscache.errors import ConfigurationError, StoreError
from glasscache.settings import Settings

if TYPE_CHECKING:
    from glasscache.stores.disk import DiskStore
    from glasscache.stores.redis import RedisStore

T = TypeVar("T")


def key(_: argparse.Namespace) -> int:
    """Print a new secret."""
    print(secrets.token_urlsafe(32))
    return 0


# --- check ----------------------------------------------------------------------------------------------------------


def check(options: argparse.Namespace) -> int:
    """Tell what the environment makes; with a file, what the proxy would do."""
    settings = Settings.from_env()
    settings.cache()  # refuses what only shows when it is put together
    print(describe(settings))
    for name, value in _told(settings):
        print(f"  {name:<24} {value}")
    if options.config is not None:
        from glasscache.cli._proxy import application  # noqa: PLC0415 - both know each other

        config = config_of(options)
        application(config, settings)
        _tell_proxy(config)
    if options.connect:
        _connect(settings)
    return 0


def _told(settings: Settings) -> Iterator[tuple[str, object]]:
    policy = settings.policy
    yield "name", settings.name
    yield "keys", "GLASSCACHE_KEY" if settings.key else "a random secret: each process has keys of its own"
    yield "largest answer", size(settings.limits.max_entry_bytes)
    yield "ttl of values in code", f"{policy.ttl:g} s"
    yield "stale while revalidate", f"{policy.stale_while_revalidate:g} s"
    yield "stale if error", f"{policy.stale_if_error:g} s"
    page = settings.stats_path or "none (GLASSCACHE_STATS_PATH)"
    yield "stats page", page + (", totals only" if settings.stats_path and not settings.stats_token else "")
    yield from _told_of_tiers(settings)


def _told_of_tiers(settings: Settings) -> Iterator[tuple[str, object]]:
    redis = settings.redis
    if settings.disk.path is not None:
        yield "disk", settings.disk.directory(settings.name)
        yield "room there", size(settings.disk.max_bytes)
    if settings.kind not in ("memory", "disk"):
        yield "Redis", without_password(redis.url or "")
        yield "prefix there", redis.prefix or f"glasscache:{settings.name}"
        yield "a command may take", f"{redis.timeout:g} s"
    elif redis.url:
        yield "Redis", f"not used: CACHE_TYPE is {settings.kind} (redis and hybrid use REDIS_URL)"
    if settings.kind != "memory":
        yield "encrypted there", "yes" if redis.secrets else "no (GLASSCACHE_SECRETS)"
        yield "compressed there", redis.compression


def _tell_proxy(config: ProxyConfig) -> None:
    print(f"proxy: http://{config.host}:{config.port} -> {config.upstream}")
    for rule in config.rules:
        terms = "as its own Cache-Control says" if rule.ttl is None else f"ttl={rule.ttl:g}"
        print(f"  {rule.path:<24} {','.join(rule.methods)}: {terms}")
    if not config.rules:
        print("  no rules: everything, as its own Cache-Control says")


def _connect(settings: Settings) -> None:
    if settings.kind == "memory":
        print("no Redis: CACHE_TYPE is memory")
        return
    asyncio.run(_with_store(settings, lambda store: store.get(bytes(16))))
    print("the disk answers" if settings.kind == "disk" else "Redis answers")


async def _with_store(settings: Settings, action: Callable[[DiskStore | RedisStore], Awaitable[T]]) -> T:
    """What comes of an action on the shared tier; a person has more time than a request. StoreError."""
    patient = replace(settings.redis, timeout=PATIENCE, connect_timeout=PATIENCE)
    store = replace(settings, redis=patient).shared()
    assert store is not None
    try:
        return await action(store)
    except StoreError as error:
        where = settings.disk.directory(settings.name) if settings.kind == "disk" else patient.url or ""
        raise StoreError(f"{without_password(str(where))} does not answer: {error}") from error
    finally:
        await store.backplane.aclose()
        await store.aclose()


# --- invalidate -----------------------------------------------------------------------------------------------------


def invalidate(options: argparse.Namespace) -> int:
    """Remove answers on every machine."""
    if options.at is not None:
        return _invalidate_at(options)
    settings = Settings.from_env()
    if settings.kind == "memory":
        raise ConfigurationError(
            "CACHE_TYPE=memory: its answers are in the process that serves them: name its stats page with --at URL; "
            "or set CACHE_TYPE, REDIS_URL and GLASSCACHE_KEY as the service has them"
        )
    keys = _keys(options, settings)
    number = asyncio.run(_with_store(settings, lambda store: _invalidate(store, keys, options.tag)))
    print(f"{_named(options)} is invalid on every machine from now on (number {number})")
    return 0


def _named(options: argparse.Namespace) -> str:
    return "everything" if options.all else f"tag {options.tag!r}" if options.tag else f"{options.key or options.url!r}"


def _invalidate_at(options: argparse.Namespace) -> int:
    """Ask a running cache to do it."""
    wanted = {name: said for name in ("tag", "key", "url", "all") if (said := getattr(options, name))}
    said = fetch(f"{options.at.rstrip('/')}/invalidate", token_of(options), json.dumps(wanted).encode())
    if "removed" not in said:
        raise StoreError(f"{options.at} removes nothing: ask for the path of GLASSCACHE_STATS_PATH")
    print(f"{_named(options)} is invalid from now on: {said['removed']} removed from memory (worker {said['worker']})")
    warn_of_others(options, said, "the others know of it if they share Redis or a disk, and only then")
    return 0


def _keys(options: argparse.Namespace, settings: Settings) -> tuple[Key, ...]:
    if options.url is not None:
        return (_key_of_url(options, settings),)
    if options.key is None:
        return ()
    keys: tuple[Key, ...] = (settings.cache().keyring.digest(b"value", options.key.encode()),)
    digest = digest_of(options.key)  # or what `get_or_load` was given looks like one
    return keys if digest is None else (*keys, digest)


def _key_of_url(options: argparse.Namespace, settings: Settings) -> Key:
    url = urlsplit(options.url)
    if not url.scheme or not url.netloc:
        raise ConfigurationError(
            f"--url {options.url!r}: give all of it, as clients ask, such as http://host/search?q=a"
        )

    async def nobody(*_: object) -> None:
        """The app of a middleware that only makes keys."""

    middleware = CacheMiddleware(nobody, cache=settings.cache(), rules=config_of(options).rules or None)
    return middleware.key_for("GET", url.path or "/", query=url.query, host=url.netloc, scheme=url.scheme)


async def _invalidate(store: DiskStore | RedisStore, keys: tuple[Key, ...], tag: str | None) -> int:
    tags = [variant_tag(key) for key in keys] if tag is None else [tag]
    number = await store.backplane.mark(tags, everything=not tags, seen=0, source=None)
    for key in keys:
        await store.delete(key)
    return number
