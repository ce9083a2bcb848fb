"""Rules: which are refused when they are made, and which paths find them."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import pytest

from glasscache import Cache
from glasscache.asgi import CacheMiddleware, QueryKey, Rule, json_body
from glasscache.asgi._routing import Routes
from glasscache.asgi.rules import methods_of, policy_of
from glasscache.errors import ConfigurationError
from glasscache.policy import Policy


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        ("ask", "starts with '/'"),
        ("", "starts with '/'"),
        ("/ask?q=1", "leave out the query; query=QueryKey"),
        ("/a%20page", "write it as the app sees it: '/a page'"),
        ("/a*", "only at the end"),
        ("/*/b", "only at the end"),
        ("/a/*/*", "only at the end"),
        ("/docs/{}", "parameter"),
        ("/docs/{id", "parameter"),
        ("/docs/id}", "parameter"),
        ("/docs/{2nd}", "parameter"),
        ("/docs/{id:path}", "parameter"),
        ("/docs/<id>", "write a parameter as {name}"),
        ("/docs/:id", "write a parameter as {name}"),
    ],
)
def test_a_path_that_cannot_match_is_refused_with_its_remedy(path: str, remedy: str) -> None:
    with pytest.raises(ConfigurationError, match=remedy.replace("*", r"\*")) as caught:
        Rule(path)
    assert repr(path) in str(caught.value)


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"methods": ()}, "GET, HEAD, POST and QUERY"),
        ({"methods": ("GET", "DELETE")}, "GET, HEAD, POST and QUERY"),
        ({"methods": ("get",)}, "GET, HEAD, POST and QUERY"),
        ({"methods": "GET"}, r"give a tuple, such as \('GET',\)"),
        ({"methods": 60}, r"methods=60\): give a tuple$"),
        ({"statuses": 200}, r"statuses=200\): give a tuple, such as \(200,\)"),
        ({"statuses": ("200",)}, r"statuses=\('200',\)\): give a tuple of int"),
        ({"key": "question"}, r"key='question'\): give json_body"),
        ({"key": json_body}, "give json_body"),
        ({"key": lambda scope, body: body}, "give json_body"),
        ({"tenant": "authorization"}, r"tenant='authorization'\): give credential\('authorization'\)"),
        ({"when": "no"}, "give a function of the scope"),
        ({"store_if": 200}, "give a function of status and headers"),
        ({"query": ("q",)}, "give a QueryKey"),
        ({"policy": {"ttl": 1}}, "give a Policy"),
        ({"name": 7}, r"name=7\): give a text"),
        ({"shared": "false"}, r"shared='false'\): give True or False"),
        ({"host": "example.org"}, r"host='example.org'\): give True or False"),
        ({"client_may_refresh": 1}, "give True or False"),
        ({"etag": "strong"}, "give True or False"),
        ({"guess": None}, "give True or False"),
        ({"max_body": "1MB"}, "give a number of bytes"),
        ({"max_loads": 1.5}, "give a whole number"),
        ({"ttl": "60"}, r"Rule\('/ask'\): ttl='60': give a finite number of seconds"),
        ({"headers": "accept"}, "tuple"),
        ({"headers": b"accept"}, "tuple"),
        ({"tags": "doc"}, "tuple"),
        ({"tenant": lambda scope: "a", "shared": True}, "not both"),
        ({"max_body": -1}, "max_body"),
        ({"body_timeout": 0}, "body_timeout"),
        ({"max_loads": 0}, "max_loads"),
        ({"ttl": -1}, "ttl"),
        ({"ttl": float("nan")}, "ttl"),
        ({"stale_while_revalidate": float("inf")}, "stale_while_revalidate"),
        ({"stale_if_error": -0.5}, "stale_if_error"),
        ({"negative_ttl": -1}, "negative_ttl"),
        ({"jitter": 1.5}, "a share of the ttl from 0 to 1"),
    ],
)
def test_an_option_that_cannot_work_is_refused_when_the_rule_is_made(options: dict[str, Any], remedy: str) -> None:
    with pytest.raises(ConfigurationError, match=remedy):
        Rule("/ask", **options)


async def _later(*_: object) -> bool:
    return False


class _Later:
    bypass_reason = "later"

    async def __call__(self, *_: object) -> bytes:
        return b""


@pytest.mark.parametrize("option", ["key", "tenant", "when", "store_if", "tags"])
@pytest.mark.parametrize("asked", [_later, _Later(), partial(_later, 1)])
def test_an_async_callable_is_refused_since_the_coroutine_it_gives_would_pass_for_a_yes(
    option: str, asked: Any
) -> None:
    with pytest.raises(ConfigurationError, match=r"give (a plain function, not an async one|json_body)"):
        Rule("/ask", **{option: asked})


@pytest.mark.parametrize("path", [None, 5, b"/ask"])
def test_a_path_is_a_text(path: Any) -> None:
    with pytest.raises(ConfigurationError, match="give a path, such as '/ask'"):
        Rule(path)


def test_parameters_to_key_and_parameters_to_ignore_exclude_each_other() -> None:
    with pytest.raises(ConfigurationError, match="one of the two"):
        QueryKey(only=("q",), ignore=("utm",))


@pytest.mark.parametrize("option", ["only", "ignore"])
def test_one_string_of_parameter_names_is_refused_since_its_letters_would_be_the_names(option: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"QueryKey\({option}='question'\): give a tuple of names"):
        QueryKey(**{option: "question"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "remedy"),
    [({"only": (1,)}, r"only=\(1,\)\): give a tuple of names"), ({"sort": "yes"}, r"sort='yes'\): give True or False")],
)
def test_what_a_query_key_cannot_use_is_refused(options: dict[str, Any], remedy: str) -> None:
    with pytest.raises(ConfigurationError, match=remedy):
        QueryKey(**options)


def test_a_rule_shows_its_options_alone() -> None:
    options = {field.name for field in dataclasses.fields(Rule)}
    assert {name for name in dir(Rule) if not name.startswith("_")} == options


def test_a_rules_group_in_telemetry_is_its_name_or_its_path() -> None:
    async def app(scope: object, receive: object, send: object) -> None: ...

    cache = Cache()
    CacheMiddleware(app, cache=cache, rules=[Rule("/ask"), Rule("/docs/{id}", name="documents")])
    assert set(cache.counters.groups) == {"/ask", "documents"}


def test_where_a_rule_says_nothing_the_caches_policy_holds() -> None:
    default = Policy(ttl=10, stale_if_error=20, jitter=0.5)
    assert policy_of(Rule("/ask"), default) == default
    assert policy_of(Rule("/ask", ttl=1, stale_if_error=0), default) == Policy(ttl=1, stale_if_error=0, jitter=0.5)
    own = Policy(ttl=7)
    assert policy_of(Rule("/ask", policy=own, stale_while_revalidate=3), default) == Policy(
        ttl=7, stale_while_revalidate=3
    )


# --- paths ----------------------------------------------------------------------------------------------------------


def to(target: str, rule: Rule) -> tuple[Rule, dict[str, str]]:
    """All requests of a rule go there."""
    return rule, dict.fromkeys(methods_of(rule), target)


def found(routes: Routes, path: str, method: str = "GET") -> object:
    return routes.of(path).get(method)


@pytest.mark.parametrize(
    ("rule", "matching", "others"),
    [
        ("/ask", ["/ask"], ["/ask/", "/asks", "/as", "/ask\n", "/"]),
        ("/", ["/"], ["/a", ""]),
        ("/docs/{id}", ["/docs/7", "/docs/a b", "/docs/a\nb"], ["/docs/", "/docs", "/docs/7/8", "/docs/7/"]),
        ("/{a}.{b}", ["/x.json"], ["/x", "/.json", "/x/y.json"]),
        ("/a.b/{id}", ["/a.b/1"], ["/aXb/1"]),
        ("/api/*", ["/api", "/api/", "/api/a", "/api/a/b", "/api/a\nb"], ["/apis", "/", "/ap"]),
        ("/{tenant}/api/*", ["/acme/api/a/b", "/acme/api"], ["/api/a", "/a/b/api/c"]),
        ("/*", ["/", "/a", "/a/b", ""], ["a"]),
    ],
)
def test_paths_match_exactly_by_parameters_and_by_prefix(rule: str, matching: list[str], others: list[str]) -> None:
    routes = Routes([to("target", Rule(rule))])
    for _ in range(2):  # the second time from memory
        assert [found(routes, path) for path in matching] == ["target"] * len(matching)
        assert [found(routes, path) for path in others] == [None] * len(others)


def test_the_first_rule_that_matches_wins_for_each_method() -> None:
    routes = Routes(
        [
            to("posts", Rule("/a/*", methods=("POST",))),
            to("exact", Rule("/a/b")),
            to("template", Rule("/a/{x}", methods=("GET", "POST"))),
        ]
    )
    assert found(routes, "/a/b") == "exact"
    assert found(routes, "/a/b", "POST") == "posts"
    assert found(routes, "/a/c") == "template"
    assert found(routes, "/a/c", "POST") == "posts"


def test_get_includes_head_and_nothing_else_is_included() -> None:
    routes = Routes([to("one", Rule("/a", methods=("GET", "QUERY"))), to("two", Rule("/b", methods=("HEAD",)))])
    methods = ("GET", "HEAD", "QUERY", "POST", "OPTIONS", "get")
    assert [found(routes, "/a", method) for method in methods] == ["one", "one", "one", None, None, None]
    assert [found(routes, "/b", method) for method in methods] == [None, "two", None, None, None, None]


def test_unknown_paths_are_not_remembered_where_all_rules_are_exact() -> None:
    routes = Routes([to("target", Rule("/ask"))])
    for number in range(10):
        assert not routes.of(f"/{number}")
    assert len(routes.known) == 1


def test_the_memory_of_paths_is_bounded_and_forgets_no_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glasscache.asgi._routing._MOST_PATHS", 3)
    routes = Routes([to("docs", Rule("/docs/{id}")), to("ask", Rule("/ask"))])
    for number in range(10):
        assert found(routes, f"/docs/{number}") == "docs"
        assert len(routes.known) <= 2 + 3
    assert found(routes, "/ask") == "ask"
    assert found(routes, "/docs/{id}") == "docs"


def test_a_path_of_monstrous_length_is_routed_but_not_remembered() -> None:
    routes = Routes([to("docs", Rule("/docs/*"))])
    assert found(routes, "/docs/" + "x" * 100_000) == "docs"
    assert len(routes.known) == 1
