"""The small commands, run as a user runs them: what they print, and their exit status."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from glasscache import Cache
from glasscache.asgi import CacheMiddleware, Rule
from glasscache.cli import main
from glasscache.keys import Keyring
from glasscache.settings import Settings
from tests.asgi.site import Origin
from tests.support.asgi import Client
from tests.support.patience import PATIENCE
from tests.support.redis_process import UNHURRIED_VARIABLES, RedisProcess
from tests.support.servers import live_server

SECRET = "a secret for the tests, long enough"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("GLASSCACHE_", "CACHE_", "REDIS_")):
            monkeypatch.delenv(name)


@pytest.fixture
def shared(server: RedisProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GLASSCACHE_NAME", tmp_path.name)  # a namespace for each test
    monkeypatch.setenv("CACHE_TYPE", "hybrid")
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{server.port}")
    monkeypatch.setenv("GLASSCACHE_KEY", SECRET)
    for name, value in UNHURRIED_VARIABLES.items():
        monkeypatch.setenv(name, value)


def test_help_names_every_command() -> None:
    command = [sys.executable, "-m", "glasscache", "--help"]
    plain = os.environ | {"NO_COLOR": "1"}  # Python 3.14 colours it, for a terminal or FORCE_COLOR
    done = subprocess.run(command, env=plain, capture_output=True, text=True, check=True)
    assert all(
        f"\n    {name} " in done.stdout for name in ("proxy", "check", "key", "why", "stats", "invalidate", "warm")
    )


def test_key_makes_a_secret_that_a_cache_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key"]) == main(["secret"]) == 0
    first, second = capsys.readouterr().out.split()
    assert first != second
    assert all(Keyring(secret) for secret in (first, second))


def test_check_tells_what_the_environment_makes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--connect"]) == 0
    said = capsys.readouterr().out
    assert "answers are kept in memory (100 entries, 64 MiB)" in said
    assert "a random secret" in said
    assert "no Redis: CACHE_TYPE is memory" in said


def test_check_tells_of_a_server_that_is_not_used(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://localhost:6379/0")
    assert main(["check"]) == 0
    assert "not used: CACHE_TYPE is memory (redis and hybrid use REDIS_URL)" in capsys.readouterr().out


@pytest.mark.usefixtures("shared")
def test_check_asks_redis_and_shows_no_secret(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLASSCACHE_SECRETS", "another secret for the tests alone")
    monkeypatch.setenv("GLASSCACHE_STATS_PATH", "/metrics/cache")
    assert main(["check", "--connect"]) == 0
    said = capsys.readouterr().out
    assert "before Redis at redis://" in said
    assert "Redis answers" in said
    assert "/metrics/cache, totals only" in said
    assert "secret" not in said


def test_check_asks_the_disk(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CACHE_TYPE", "disk")
    monkeypatch.setenv("GLASSCACHE_DISK_PATH", str(tmp_path))
    monkeypatch.setenv("GLASSCACHE_KEY", SECRET)
    assert main(["check", "--connect"]) == 0
    said = capsys.readouterr().out
    assert f"answers are kept in memory (100 entries, 64 MiB) before {tmp_path}/default (1 GiB)" in said
    assert "the disk answers" in said
    assert main(["invalidate", "--tag", "doc"]) == 0
    assert "tag 'doc' is invalid on every machine from now on (number 1)" in capsys.readouterr().out
    (tmp_path / "file").touch()
    monkeypatch.setenv("GLASSCACHE_DISK_PATH", str(tmp_path / "file"))
    assert main(["check", "--connect"]) == 1
    assert f"{tmp_path}/file/default does not answer: " in capsys.readouterr().err


def test_check_tells_every_mistake_at_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_MAX_SIZE", "many")
    monkeypatch.setenv("CACHE_TTL", "long")
    assert main(["check"]) == 2
    said = capsys.readouterr().err
    assert "CACHE_MAX_SIZE='many': give a whole number" in said
    assert "CACHE_TTL='long': give a number of seconds" in said


def test_check_tells_when_redis_does_not_answer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHE_TYPE", "redis")
    monkeypatch.setenv("REDIS_URL", "redis://user:hidden@127.0.0.1:1")
    monkeypatch.setenv("GLASSCACHE_KEY", SECRET)
    assert main(["check", "--connect"]) == 1
    said = capsys.readouterr()
    assert "Redis at redis://***@127.0.0.1:1" in said.out
    assert "redis://***@127.0.0.1:1 does not answer: " in said.err
    assert "hidden" not in said.out + said.err


def test_check_reads_the_proxys_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "proxy.toml"
    file.write_text('upstream = "http://127.0.0.1:8000"\n[[rules]]\npath = "/a"\nttl = 60\n[[rules]]\npath = "/b"\n')
    assert main(["check", "--config", str(file)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["/a", "GET,HEAD:", "ttl=60"] in lines
    assert ["/b", "GET,HEAD:", "as", "its", "own", "Cache-Control", "says"] in lines
    file.write_text('upstream = "http://127.0.0.1:8000"\n')
    assert main(["check", "--config", str(file)]) == 0
    assert "no rules: everything" in capsys.readouterr().out
    file.write_text('upstream = "127.0.0.1:8000"\n')
    assert main(["check", "--config", str(file)]) == 2
    assert "give a URL such as" in capsys.readouterr().err


def test_check_says_that_the_cache_is_switched_off(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLASSCACHE_ENABLED", "false")
    assert main(["check"]) == 0
    assert capsys.readouterr().out.startswith("the cache is switched off (GLASSCACHE_ENABLED): nothing is kept\n")


def test_stats_shows_a_page_and_with_the_token_its_groups(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = CacheMiddleware(Origin(), cache=Cache(), stats_path="/stats", stats_token="opensesame")
    with live_server(app) as running:
        assert main(["stats", f"{running.url}/stats"]) == 0
        assert "total_requests" in (plain := capsys.readouterr().out)
        assert "groups" not in plain
        assert main(["stats", f"{running.url}/stats", "--token", "opensesame"]) == 0
        assert "groups" not in capsys.readouterr().out  # nothing has been asked of any
        monkeypatch.setenv("GLASSCACHE_STATS_TOKEN", "opensesame")
        assert main(["stats", f"{running.url}/stats", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["total_requests"] == 0
        assert main(["stats", f"{running.url}/elsewhere"]) == 1
        assert "is no stats page: ask for the path of GLASSCACHE_STATS_PATH" in capsys.readouterr().err
        assert main(["stats", f"{running.url}/stats", "--token", "wrong"]) == 0
        assert "totals only: the page has another token, or none" in capsys.readouterr().err
        assert main(["stats", f"{running.url}/stats/contention", "--token", "wrong"]) == 1
        assert "answers 401" in capsys.readouterr().err


def test_stats_tells_a_line_of_each_group_and_where_reasons_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    rules = [Rule("/quiet", ttl=60), Rule("/cookies/{name}", ttl=60)]
    origin = Origin(headers=[(b"set-cookie", b"a=b")])
    app = CacheMiddleware(origin, cache=Cache(), rules=rules, stats_path="/stats", stats_token="opensesame")
    with live_server(app) as running:
        urllib.request.urlopen(f"{running.url}/cookies/1").close()
        assert main(["stats", f"{running.url}/stats", "--token", "opensesame"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[lines.index("not_stored:") + 1].split() == ["set_cookie", "1"]
    assert lines[-4].split()[:5] == ["group", "hit_rate", "requests", "hits", "misses"]
    assert lines[-3].split()[:5] == ["/cookies/{name}", "0", "1", "0", "1"]  # who is asked most comes first
    assert lines[-2].split() == ["/quiet", *"00000000", "-"]
    assert lines[-1].startswith("`glasscache why REASON`")


def test_stats_refuses_what_is_no_page(capsys: pytest.CaptureFixture[str]) -> None:
    with live_server(Origin(b"[1]")) as running:
        assert main(["stats", running.url]) == 1
    assert "is no stats page" in capsys.readouterr().err
    with live_server(Origin(b"gone", status=404)) as running:
        assert main(["stats", running.url]) == 1
    assert "answers 404 Not Found: is it the page of GLASSCACHE_STATS_PATH?" in capsys.readouterr().err
    assert main(["stats", running.url]) == 1
    assert "does not answer" in capsys.readouterr().err
    assert main(["stats", "ftp://127.0.0.1"]) == 2
    assert "give the URL of a stats page" in capsys.readouterr().err


# --- invalidate ------------------------------------------------------------------------------------------------------


RULES = [Rule("/docs", tags=("docs",), ttl=60)]
LIKE_A_DIGEST = "d41d8cd98f00b204e9800998ecf8427e"
"""What many use as a key: the MD5 of something."""


class Site:
    """A machine with the settings of the environment, that counts its loads."""

    def __init__(self) -> None:
        self.origin = Origin(b"answer")
        self.cache = Settings.from_env().cache()
        self.client = Client(CacheMiddleware(self.origin, cache=self.cache, rules=RULES))

    async def get(self) -> None:
        response = await self.client.request("GET", "/docs", query="a=1", headers={"host": "example.com"})
        assert response.body == b"answer"


@pytest.mark.usefixtures("shared", "no_leaks")
@pytest.mark.parametrize(
    "words",
    [
        ("--tag", "docs"),
        ("--all",),
        ("--url", "http://example.com/docs?a=1", "--rule", "/docs ttl=60"),
        ("--key", "value of get_or_load"),
        ("--key", LIKE_A_DIGEST),
        ("--key", "digest"),
    ],
)
def test_invalidate_reaches_a_running_machine(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    async def scenario() -> None:
        site, loads = Site(), 0

        async def load() -> int:
            nonlocal loads
            loads += 1
            return loads

        async def ask() -> int:
            await site.get()
            values = [await site.cache.get_or_load(key, load) for key in ("value of get_or_load", LIKE_A_DIGEST)]
            return len(site.origin.scopes) + sum(values)

        given = words
        if words[-1] == "digest":
            middleware = CacheMiddleware(site.origin, cache=site.cache, rules=RULES)
            key = middleware.key_for("GET", "/docs", query="a=1", host="example.com", scheme="http")
            given = ("--key", key.hex())
        try:
            before = await ask()
            assert await ask() == before
            assert await asyncio.to_thread(main, ["invalidate", *given]) == 0
            async with asyncio.timeout(PATIENCE):  # told through Redis: it comes when it comes
                while await ask() == before:  # noqa: ASYNC110 - another process tells nobody here
                    await asyncio.sleep(0.001)
        finally:
            await site.cache.aclose()

    asyncio.run(scenario())
    assert "is invalid on every machine from now on (number " in capsys.readouterr().out


def test_invalidate_tells_when_there_is_nothing_to_reach(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["invalidate", "--all"]) == 2
    assert (
        "name its stats page with --at URL; or set CACHE_TYPE, REDIS_URL and GLASSCACHE_KEY" in capsys.readouterr().err
    )
    monkeypatch.setenv("CACHE_TYPE", "redis")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
    monkeypatch.setenv("GLASSCACHE_KEY", SECRET)
    assert main(["invalidate", "--tag", "docs"]) == 1
    assert "does not answer" in capsys.readouterr().err
    assert main(["invalidate", "--url", "/docs"]) == 2
    assert "give all of it" in capsys.readouterr().err


def test_invalidate_asks_a_single_process_at_its_stats_page(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = CacheMiddleware(Origin(), cache=Cache(), rules=RULES, stats_path="/stats", stats_token="opensesame")
    with live_server(app) as running:
        urllib.request.urlopen(f"{running.url}/docs?a=1").close()
        at = ["invalidate", "--at", f"{running.url}/stats"]
        assert main([*at, "--all"]) == 1
        assert "answers 401 Unauthorized: give its token with --token" in capsys.readouterr().err
        assert main([*at, "--token", "opensesame", "--url", f"{running.url}/docs?a=1"]) == 0
        assert "/docs?a=1' is invalid from now on: 1 removed from memory (worker " in capsys.readouterr().out
        monkeypatch.setenv("GLASSCACHE_STATS_TOKEN", "opensesame")
        monkeypatch.setenv("WEB_CONCURRENCY", "4")
        assert main([*at, "--all"]) == 0
        assert "one worker of 4 was asked" in capsys.readouterr().err
        assert main([*at, "--url", "docs"]) == 1
        assert "answers 400 Bad Request: url 'docs': give path and query, such as /search" in capsys.readouterr().err
        assert main(["invalidate", "--at", f"{running.url}/elsewhere", "--all"]) == 1
        assert "removes nothing: ask for the path of GLASSCACHE_STATS_PATH" in capsys.readouterr().err


def test_an_interrupt_and_a_reader_who_left_are_told_by_the_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("secrets.token_urlsafe", interrupted)
    assert main(["key"]) == 130
    command = [sys.executable, "-m", "glasscache", "check"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(PATIENCE) == 141
