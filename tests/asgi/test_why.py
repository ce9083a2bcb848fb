"""Why nothing is cached: the log says it once for each rule, and the stats page counts it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pytest

from glasscache import Cache, Limits
from glasscache.asgi import CacheMiddleware, Rule, answer, json_body
from glasscache.asgi._why import BYPASSED, UNSTORED
from glasscache.asgi.types import Receive, Scope, Send
from glasscache.stats import stats
from tests.asgi.site import Origin, run
from tests.support.asgi import Client

BEARER = [(b"authorization", b"Bearer a")]


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def ask(
    rule: Rule,
    origin: Origin,
    *requests: tuple[str, list[tuple[bytes, bytes]], bytes],
    cache: Cache | None = None,
    strict_length: bool = True,
) -> Cache:
    """Each of these requests (method, headers, body) to the path of the rule."""
    cache = cache or Cache()

    async def scenario() -> None:
        client = Client(CacheMiddleware(origin, cache=cache, rules=[rule]), strict_length=strict_length)
        for method, headers, body in requests:
            await client.request(method, rule.path, headers=headers, body=body)

    run(scenario)
    return cache


def test_a_rule_that_keeps_nothing_because_of_credentials_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    ask(Rule("/search", ttl=60), Origin(), *[("GET", BEARER, b"")] * 3)
    assert told(caplog) == [
        f"Rule('/search'): a request went past the cache (told once; credentials): {BYPASSED['credentials']}"
    ]


def test_the_field_that_no_rule_knows_is_named_if_it_is_a_plain_word(caplog: pytest.LogCaptureFixture) -> None:
    rule = Rule("/ask", methods=("POST",), ttl=60, key=json_body("question", ignore=("user",)))
    ask(rule, Origin(), ("POST", [], b'{"question": "a", "top_k": 3, "user": 1, "a\\nline of\\tits own": 2}'))
    [line] = told(caplog)
    assert line.endswith("name it in `ignore=` (here: top_k)")


@pytest.mark.parametrize("body", [b'{"what is asked": 1}', b'{"' + b"x" * 41 + b'": 1}'])
def test_a_field_that_may_be_what_is_asked_is_not_named(body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    rule = Rule("/ask", methods=("POST",), ttl=60, key=json_body("question"))
    ask(rule, Origin(), ("POST", [], body))
    [line] = told(caplog)
    assert line.endswith(BYPASSED["unkeyed_field"])


def test_a_key_of_ones_own_may_go_by_the_same_word(caplog: pytest.LogCaptureFixture) -> None:
    class Mine:
        bypass_reason = "unkeyed_field"

        def __call__(self, scope: Mapping[str, Any], body: bytes) -> bytes | None:
            return None

    ask(Rule("/ask", methods=("POST",), ttl=60, key=Mine()), Origin(), ("POST", [], b"[]"))
    [line] = told(caplog)
    assert line.endswith(BYPASSED["unkeyed_field"])


@pytest.mark.parametrize(
    ("reason", "status", "headers"),
    [
        ("set_cookie", 200, [(b"set-cookie", b"a=b")]),
        ("private", 200, [(b"cache-control", b"private")]),
        ("vary_star", 200, [(b"vary", b"*")]),
        ("cors_without_vary", 200, [(b"access-control-allow-origin", b"https://a.example")]),
        ("status", 201, []),
    ],
)
def test_an_answer_that_a_rule_was_to_keep_and_cannot_is_told_once_and_counted(
    reason: str, status: int, headers: list[tuple[bytes, bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    cache = ask(Rule("/a", ttl=60), Origin(status=status, headers=headers), *[("GET", [], b"")] * 2)
    assert told(caplog) == [f"Rule('/a'): an answer was not stored (told once; {reason}): {UNSTORED[reason]}"]
    assert stats(cache)["not_stored"] == {reason: 2}


@pytest.mark.parametrize(
    ("rule", "origin", "headers"),
    [
        (Rule("/a"), Origin(headers=[(b"cache-control", b"private")]), []),  # as its origin wants it
        (Rule("/a", ttl=60), Origin(status=404), []),
        (Rule("/a", ttl=60), Origin(status=302, headers=[(b"set-cookie", b"a=b")]), []),
        (Rule("/a", ttl=60, when=lambda scope: False), Origin(), []),
        (Rule("/a", ttl=60, tenant=lambda scope: None), Origin(), BEARER),
    ],
)
def test_what_is_meant_is_not_told(
    rule: Rule, origin: Origin, headers: list[tuple[bytes, bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    ask(rule, origin, ("GET", headers, b""))
    assert told(caplog) == []


def test_what_a_handler_takes_out_is_counted_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    class Silent(Origin):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            answer().no_store()
            await super().__call__(scope, receive, send)

    cache = ask(Rule("/a", ttl=60), Silent(), ("GET", [], b""))
    assert told(caplog) == []
    assert stats(cache)["not_stored"] == {"no_store": 1}


def test_what_its_handler_takes_back_at_the_end_is_counted_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    class Late(Origin):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
            answer().no_store()
            await send({"type": "http.response.body", "body": b"b"})

    cache = ask(Rule("/a", ttl=60), Late(), ("GET", [], b""))
    assert told(caplog) == []
    assert stats(cache)["not_stored"] == {"no_store": 1}


@pytest.mark.parametrize("status", [200, 503])
def test_what_is_too_large_to_be_stored_is_counted_and_told_once(status: int, caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache(limits=Limits(max_entry_bytes=4))
    rule = Rule("/a", ttl=60)
    ask(rule, Origin(status=status), *[("GET", [], b"")] * 2, cache=cache)
    if status == 200:
        assert told(caplog) == [f"Rule('/a'): an answer was not stored (told once; too_large): {UNSTORED['too_large']}"]
    assert stats(cache)["not_stored"] == {"too_large" if status == 200 else "status": 2}


def test_an_answer_that_is_not_as_long_as_it_says_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    short = Origin(headers=[(b"content-length", b"100")])
    cache = ask(Rule("/a", ttl=60), short, ("GET", [], b""), strict_length=False)
    assert told(caplog) == []
    assert stats(cache)["not_stored"] == {"incomplete": 1}


def test_the_reason_is_counted_with_its_rule_and_a_value_has_its_own() -> None:
    cache = Cache()
    ask(Rule("/a", name="mine", ttl=60), Origin(headers=[(b"set-cookie", b"a=b")]), ("GET", [], b""), cache=cache)

    async def load() -> int:
        return 7

    async def scenario() -> None:
        assert await cache.get_or_load("seven", load, group="values", store_if=lambda value: False) == 7

    run(scenario)
    groups = {name: dict(group.unstored) for name, group in cache.counters.groups.items()}
    assert groups == {"mine": {"set_cookie": 1}, "values": {"store_if": 1}}
