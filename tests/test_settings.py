"""Settings: what the environment may say, and how every mistake in it is named."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import get_args

import pytest

from glasscache._variables import VARIABLES
from glasscache.errors import ConfigurationError
from glasscache.policy import Detail, Limits, Policy
from glasscache.settings import DiskSettings, Kind, RedisSettings, Settings
from glasscache.stores._redis_backplane import RedisBackplane
from glasscache.stores.disk import DiskStore
from glasscache.stores.redis import RedisStore

KEY = "a secret that is for tests only, 0123456789"


def test_an_empty_environment_gives_the_defaults_of_the_system_that_this_replaces() -> None:
    settings = Settings.from_env({})
    assert settings == Settings()
    assert (settings.max_entries, settings.policy.ttl, settings.max_bytes) == (100, 300, 64 * 1024**2)
    assert (settings.name, settings.key, settings.stats_path, settings.stats_token) == (
        "default",
        None,
        None,
        None,
    )
    assert settings.limits == Limits()


def test_every_variable_is_read_into_its_field() -> None:
    settings = Settings.from_env(
        {
            "CACHE_TYPE": "Memory",
            "CACHE_MAX_SIZE": "7",
            "CACHE_TTL": "1.5",
            "GLASSCACHE_ENABLED": "no",
            "GLASSCACHE_NAME": "knowledge",
            "GLASSCACHE_MAX_BYTES": "2MiB",
            "GLASSCACHE_KEY": KEY,
            "GLASSCACHE_STATS_PATH": "/metrics/cache",
            "GLASSCACHE_STATS_TOKEN": "t0ken",
            "GLASSCACHE_STALE_WHILE_REVALIDATE": "60",
            "GLASSCACHE_STALE_IF_ERROR": "600",
            "GLASSCACHE_LOAD_TIMEOUT": "9.5",
            "GLASSCACHE_MAX_WAITERS": "11",
            "GLASSCACHE_MAX_ENTRY_BYTES": "1.5kb",
            "GLASSCACHE_FINISH_ABANDONED": "off",
            "GLASSCACHE_TRACE_HITS": "yes",
            "GLASSCACHE_TIME_HITS": "100",
            "GLASSCACHE_CLEAR_KEYS": "on",
            "REDIS_URL": "rediss://user:s3cret@cache.internal:6380/2",
            "REDIS_CACHE_TTL": "3600",
            "REDIS_MAX_CONNECTIONS": "10",
            "GLASSCACHE_REDIS_TIMEOUT": "0.1",
            "GLASSCACHE_REDIS_CONNECT_TIMEOUT": "0.2",
            "GLASSCACHE_REDIS_MEMO_BYTES": "1MiB",
            "GLASSCACHE_PREFIX": "rag",
            "GLASSCACHE_LEASE_SECONDS": "3",
            "GLASSCACHE_COMPRESSION": "zlib",
            "GLASSCACHE_SECRETS": "new secret, old secret,",
            "UNRELATED": "x",
        }
    )
    assert settings == Settings(
        redis=RedisSettings(
            url="rediss://user:s3cret@cache.internal:6380/2",
            max_ttl=3600,
            max_connections=10,
            timeout=0.1,
            connect_timeout=0.2,
            memo_bytes=1024**2,
            prefix="rag",
            lease_seconds=3,
            compression="zlib",
            secrets=("new secret", "old secret"),
        ),
        max_entries=7,
        max_bytes=2 * 1024**2,
        policy=Policy(ttl=1.5, stale_while_revalidate=60, stale_if_error=600),
        limits=Limits(load_timeout=9.5, max_waiters=11, max_entry_bytes=1500, finish_abandoned=False),
        detail=Detail(trace_hits=True, time_hits=100, clear_keys=True),
        name="knowledge",
        key=KEY,
        stats_path="/metrics/cache",
        stats_token="t0ken",
        enabled=False,
    )


def test_every_limit_has_a_variable_of_its_name() -> None:
    texts = {int: "3", float: "3", bool: "no"}
    for field in dataclasses.fields(Limits):
        text = texts[type(field.default)]
        limits = Settings.from_env({f"GLASSCACHE_{field.name.upper()}": text}).limits
        wanted = {field.name: False if text == "no" else 3}
        assert dataclasses.asdict(limits) == dataclasses.asdict(Limits()) | wanted


def test_no_memo_may_be_wanted() -> None:
    assert Settings.from_env({"GLASSCACHE_REDIS_MEMO_BYTES": " 0 "}).redis.memo_bytes == 0


def test_a_variable_that_is_empty_counts_as_not_set() -> None:
    assert Settings.from_env(dict.fromkeys(VARIABLES, "")) == Settings()


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_MAX_SIZE", "8")
    assert Settings.from_env().max_entries == 8


@pytest.mark.parametrize(
    ("text", "size"),
    [("67108864", 2**26), ("64MiB", 2**26), ("64 mib", 2**26), ("64MB", 64_000_000), ("1.5KiB", 1536),
     ("1gb", 10**9), ("2TiB", 2**41), ("5B", 5)],
)  # fmt: skip
def test_sizes_are_bytes_or_carry_a_unit(text: str, size: int) -> None:
    assert Settings.from_env({"GLASSCACHE_MAX_BYTES": text}).max_bytes == size


@pytest.mark.parametrize(
    ("name", "text", "remedy"),
    [
        ("CACHE_TYPE", "memcached", "choose memory (the default), disk (memory before a file), redis, or hybrid"),
        ("GLASSCACHE_COMPRESSION", "lzma", "choose zstd (the default), zlib or none"),
        ("REDIS_CACHE_TTL", "0", "give a number of seconds above 0"),
        ("CACHE_MAX_SIZE", "0", "give a whole number, 1 or more"),
        ("CACHE_MAX_SIZE", "1.5", "give a whole number, 1 or more"),
        ("CACHE_MAX_SIZE", "9" * 5000, "give a whole number, 1 or more"),
        ("CACHE_TTL", "-1", "give a number of seconds, 0 or more"),
        ("CACHE_TTL", "inf", "give a number of seconds, 0 or more"),
        ("CACHE_TTL", "nan", "give a number of seconds, 0 or more"),
        ("CACHE_TTL", "5m", "give a number of seconds, 0 or more"),
        ("GLASSCACHE_STALE_IF_ERROR", "x", "give a number of seconds, 0 or more"),
        ("GLASSCACHE_LOAD_TIMEOUT", "0", "give a number of seconds above 0"),
        ("GLASSCACHE_DRAIN", "inf", "give a number of seconds above 0"),
        ("GLASSCACHE_MAX_FLIGHTS", "many", "give a whole number, 1 or more"),
        ("GLASSCACHE_FINISH_ABANDONED", "maybe", "give true or false"),
        ("GLASSCACHE_MAX_BYTES", "64M", "such as 64MiB"),
        ("GLASSCACHE_MAX_BYTES", "0.5B", "such as 64MiB"),
        ("GLASSCACHE_MAX_BYTES", "-1", "such as 64MiB"),
        ("GLASSCACHE_MAX_FLIGHT_BYTES", "9" * 400, "such as 64MiB"),
        ("GLASSCACHE_STATS_PATH", "metrics/cache", "give a path that begins with /"),
        ("GLASSCACHE_STATS_PATH", "/a?b", "give a path that begins with /"),
        ("REDIS_POOL_SIZE", "none", "give a whole number, 1 or more"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_its_value_and_the_remedy(name: str, text: str, remedy: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env({name: text})
    head, problem = str(caught.value).split("\n")
    assert head == "the environment cannot work:"
    assert problem.startswith(f"{name}={text!r}: ")
    assert remedy in problem


def test_all_mistakes_are_told_at_once() -> None:
    wrong = {"CACHE_TTL": "x", "CACHE_MAX_SIZE": "y", "GLASSCACHE_KEY": "short", "GLASSCACHE_NANE": "z"}
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env(wrong)
    named = {line.split(":")[0].split("=")[0] for line in str(caught.value).split("\n")[1:]}
    assert named == set(wrong)


@pytest.mark.parametrize("unset", ["GLASSCACHE_LOAD_TIMOUT", "GLASSCACHE_LOADTIMEOUT"])
def test_a_misspelt_name_is_refused_with_the_closest_one(unset: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{unset}: no such setting; did you mean GLASSCACHE_LOAD_TIMEOUT"):
        Settings.from_env({unset: "s3cret"})


def test_a_name_like_no_other_is_refused_with_all_there_are() -> None:
    with pytest.raises(ConfigurationError, match="no such setting; there are GLASSCACHE_ENABLED, ") as caught:
        Settings.from_env({"GLASSCACHE_0123456789012345678901": "s3cret"})
    assert "s3cret" not in str(caught.value)


def test_names_that_others_read_are_left_to_them() -> None:
    theirs = (
        "GLASSCACHE_METRICS_PORT",
        "GLASSCACHE_METRICS_HOST",
        "GLASSCACHE_METRICS_TOKEN",
        "GLASSCACHE_SOAK",
    )
    assert Settings.from_env(dict.fromkeys(theirs, "1")) == Settings()


def test_two_names_of_one_setting_may_agree_but_not_differ() -> None:
    for found in (
        {"REDIS_MAX_CONNECTIONS": "10", "REDIS_POOL_SIZE": " 10"},
        {"REDIS_MAX_CONNECTIONS": "10"},
        {"REDIS_POOL_SIZE": "10"},
    ):
        assert Settings.from_env(found) == Settings(redis=RedisSettings(max_connections=10))
    with pytest.raises(ConfigurationError, match="REDIS_MAX_CONNECTIONS=10 and REDIS_POOL_SIZE=20 are one setting"):
        Settings.from_env({"REDIS_MAX_CONNECTIONS": "10", "REDIS_POOL_SIZE": "20"})


@pytest.mark.parametrize("kind", ["redis", "hybrid", "tiered"])
def test_a_tier_that_machines_share_needs_its_place_and_a_secret(kind: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env({"CACHE_TYPE": kind})
    _, place, secret = str(caught.value).split("\n")
    assert place == f"REDIS_URL: CACHE_TYPE={kind} needs it, such as redis://localhost:6379/0"
    assert secret.startswith(f"GLASSCACHE_KEY: CACHE_TYPE={kind} needs it, the same on every machine: make one with")
    complete = {"CACHE_TYPE": kind, "REDIS_URL": "unix:///run/redis.sock", "GLASSCACHE_KEY": KEY}
    assert Settings.from_env(complete).kind == kind


def test_a_url_of_another_kind_is_refused_without_showing_its_password() -> None:
    with pytest.raises(ConfigurationError, match=r"REDIS_URL: give a URL such as redis://") as caught:
        Settings.from_env({"REDIS_URL": "http://user:s3cret@host"})
    assert "s3cret" not in str(caught.value)


def test_a_url_that_cannot_be_used_is_refused_by_the_name_of_its_variable() -> None:
    settings = Settings(kind="redis", redis=RedisSettings(url="redis://:s3cret@host:port"), key=KEY)
    with pytest.raises(ConfigurationError, match=r"REDIS_URL and what goes with it: .*Port could not be") as caught:
        settings.cache()
    assert "s3cret" not in str(caught.value)


def test_a_disk_needs_its_directory_and_a_secret() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env({"CACHE_TYPE": "disk"})
    _, place, secret = str(caught.value).split("\n")
    assert place == (
        "GLASSCACHE_DISK_PATH: CACHE_TYPE=disk needs it, a directory on a local disk, such as /var/cache/my-app"
    )
    assert secret.startswith("GLASSCACHE_KEY: CACHE_TYPE=disk needs it, the same on every machine: make one with")
    with pytest.raises(
        ConfigurationError, match=r"GLASSCACHE_DISK_PATH='x': CACHE_TYPE=memory uses no disk: choose disk"
    ):
        Settings.from_env({"GLASSCACHE_DISK_PATH": "x"})
    with pytest.raises(ConfigurationError, match=r"DiskSettings\(path=None\): give a directory"):
        Settings(kind="disk", key=KEY).shared()
    small = DiskSettings(path="x", max_bytes=1)
    with pytest.raises(
        ConfigurationError, match=r"GLASSCACHE_DISK_PATH and what goes with it: DiskStore\(max_bytes=1\)"
    ):
        Settings(kind="disk", disk=small, key=KEY).cache()


def test_each_cache_has_a_directory_of_its_own_on_the_disk(tmp_path: Path) -> None:
    read = Settings.from_env(
        {
            "CACHE_TYPE": "disk",
            "GLASSCACHE_DISK_PATH": str(tmp_path),
            "GLASSCACHE_DISK_MAX_BYTES": "5GiB",
            "GLASSCACHE_KEY": KEY,
            "GLASSCACHE_LEASE_SECONDS": "3",
        }
    )
    assert read.disk == DiskSettings(path=str(tmp_path), max_bytes=5 * 1024**3)
    store = read.shared()
    assert isinstance(store, DiskStore)
    assert store.path == tmp_path / "default"
    for name in (".", "..", "a/b", "a.b"):
        assert read.disk.directory(name).parent == tmp_path
    assert len({read.disk.directory(name) for name in (".", "..", "a/b", "a.b", "a", "A b")}) == 6


def test_with_redis_a_disk_stands_between_it_and_memory(tmp_path: Path) -> None:
    settings = Settings(
        kind="hybrid", redis=RedisSettings(url="redis://localhost:1"), disk=DiskSettings(path=str(tmp_path)), key=KEY
    )
    engine = settings.cache()._engine
    assert (engine.near.name, engine._state.far.name) == ("memory", "redis")
    assert isinstance(engine._state.coherence.backplane, RedisBackplane)
    assert isinstance(engine._state.coherence.backplane.middle, DiskStore)
    assert isinstance(settings.shared(), RedisStore)
    assert Settings().shared() is None


def test_one_switch_chooses_between_memory_disk_redis_and_both(tmp_path: Path) -> None:
    redis = RedisSettings(url="redis://:s3cret@localhost:1")
    disks = {"disk": DiskSettings(path=str(tmp_path))}
    engines = {
        kind: Settings(kind=kind, redis=redis, disk=disks.get(kind, DiskSettings()), key=KEY).cache()._engine
        for kind in get_args(Kind)
    }
    assert {kind: (engine.near.name, engine._state.far.name) for kind, engine in engines.items()} == {
        "memory": ("memory", "none"),
        "disk": ("memory", "disk"),
        "redis": ("none", "redis"),
        "hybrid": ("memory", "redis"),
        "tiered": ("memory", "redis"),
    }
    assert "s3cret" not in repr(redis)
    with pytest.raises(ConfigurationError, match=r"RedisSettings\(url=None\): give a URL"):
        Settings(kind="redis", key=KEY).cache()


@pytest.mark.parametrize(
    ("environ", "is_told"),
    [
        ({"REDIS_URL": "redis://localhost"}, True),
        ({"REDIS_URL": "redis://localhost", "CACHE_TYPE": "memory"}, False),  # it is for somebody else
        ({"REDIS_URL": "redis://localhost", "GLASSCACHE_ENABLED": "false"}, False),
        ({"REDIS_CACHE_TTL": "3"}, False),
    ],
)
def test_a_redis_that_nobody_said_what_it_is_for_is_told_when_a_cache_is_made(
    environ: dict[str, str], is_told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings.from_env(environ)
    assert caplog.messages == []  # another cache may have been made in code
    settings.cache()
    told = [message for message in caplog.messages if "CACHE_TYPE=hybrid" in message]
    assert len(told) == is_told


def test_a_kind_that_there_is_not_is_refused_in_code_as_well() -> None:
    with pytest.raises(ConfigurationError, match=r"Settings\(kind='disco'\): choose one of memory, disk"):
        Settings(kind="disco")  # type: ignore[arg-type]


def test_secrets_are_neither_in_repr_nor_in_messages() -> None:
    settings = Settings(key=KEY, stats_token="t0ken")
    assert KEY not in repr(settings)
    assert "t0ken" not in repr(settings)
    with pytest.raises(ConfigurationError, match=r"GLASSCACHE_KEY: the key secret has 6 characters") as caught:
        Settings.from_env({"GLASSCACHE_KEY": "s3cret", "GLASSCACHE_STATS_TOKEN": "t0ken"})
    assert "s3cret" not in str(caught.value)
    assert "t0ken" not in str(caught.value)


def test_the_cache_is_built_as_set() -> None:
    settings = Settings(
        max_entries=7,
        max_bytes=5000,
        policy=Policy(ttl=9),
        limits=Limits(max_flights=3),
        detail=Detail(time_hits=5),
        name="knowledge",
        key=KEY,
    )
    one, two = settings.cache(), settings.cache()
    assert one is not two
    assert (one.name, one.policy, one.limits) == ("knowledge", Policy(ttl=9), Limits(max_flights=3))
    assert one.detail == Detail(time_hits=5)
    assert one.keyring.digest(b"x") == two.keyring.digest(b"x")
    assert one.enabled
    assert not Settings.from_env({"GLASSCACHE_ENABLED": "false"}).cache().enabled
    (gauge,) = one.gauges()
    assert (gauge.tier, gauge.entry_limit, gauge.size_limit) == ("memory", 7, 5000)


PAGE = Path(__file__).parents[1] / "docs" / "settings.md"


def test_every_setting_is_on_its_page_with_its_default() -> None:
    page = PAGE.read_text("utf-8")
    assert [name for name in VARIABLES if f"`{name}`" not in page] == []
    made = Settings()
    parts = {"settings": made, "policy": made.policy, "limits": made.limits, "detail": made.detail}
    parts["disk"] = made.disk
    rows = re.findall(r"^\| `([A-Z_]+)` \| `(.+?)` \|", page, re.MULTILINE)
    assert len(rows) > 15
    for name, default in rows:
        variable = VARIABLES[name]
        assert variable.parse(default) == getattr(parts[variable.part], variable.field), name
