"""`glasscache why`, as a user runs it: what became of a request, in words."""

from __future__ import annotations

import pytest

from glasscache import Cache
from glasscache.asgi import CacheMiddleware, Rule, json_body
from glasscache.asgi._why import BYPASSED, UNSTORED
from glasscache.cli import main
from tests.asgi.site import Origin
from tests.support.ports import free_port
from tests.support.servers import live_server


def why(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(["why", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_url_is_asked_and_what_became_of_it_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    rules = [Rule("/search", ttl=60), Rule("/ask", methods=("POST",), ttl=60, key=json_body("question"))]
    origin = Origin()
    with live_server(CacheMiddleware(origin, cache=Cache(), rules=rules)) as server:
        site = f"http://127.0.0.1:{server.port}"
        first, second = (why(capsys, f"{site}/search?q=a") for _ in range(2))
        by_name = why(capsys, f"{site}/search?q=a", "-H", "authorization:Bearer a")
        field = why(capsys, f"{site}/ask", "-d", '{"question": "a", "top_k": 1}')
        past = why(capsys, f"{site}/search?q=a", "-X", "PUT")
    stored = "  loaded, and stored: who asks next gets it from the cache"
    assert first == ["200 OK", "glasscache; fwd=uri-miss; stored", stored]
    assert second[2] == "  a stored answer, fresh for as many seconds more as ttl says"
    assert by_name[2] == f"  the request went past the cache (credentials): {BYPASSED['credentials']}"
    assert field[2] == f"  the request went past the cache (unkeyed_field): {BYPASSED['unkeyed_field']}"
    [asked] = [scope for scope in origin.scopes if scope.get("method") == "POST"]
    assert dict(asked["headers"])[b"content-type"] == b"application/json"
    assert past[0] == "200 OK"
    assert past[1].startswith("  no Cache-Status: the path /search has no rule for that method")


def test_an_error_is_told_as_any_other_answer(capsys: pytest.CaptureFixture[str]) -> None:
    with live_server(CacheMiddleware(Origin(status=404), cache=Cache(), rules=[Rule("/a", ttl=60)])) as server:
        told = why(capsys, f"http://127.0.0.1:{server.port}/a")
    assert told[0] == "404 Not Found"
    assert told[2] == f"  the answer was not stored (status): {UNSTORED['status']}"


@pytest.mark.parametrize(
    ("what", "begins"),
    [
        ("Cache-Status: glasscache; hit; ttl=-3; detail=error", ["a stored answer past its time"]),
        ("glasscache; fwd=stale; fwd-status=304; stored", ["a stored answer, of which the app has just said"]),
        ("glasscache; fwd=uri-miss; collapsed", ["the answer that another request"]),
        ("glasscache; fwd=request; detail=only_if_cached", ["the request went past the cache (only_if_cached)"]),
        ('glasscache; fwd=bypass; detail="my word"', ["the request went past the cache (my word), as the rule's own"]),
        ("glasscache; fwd=uri-miss; detail=no_store", ["the answer was not stored (no_store)"]),
        ("no_store", ["the request went past the cache (no_store)", "the answer was not stored (no_store)"]),
    ],
)
def test_a_cache_status_is_read_aloud(what: str, begins: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    told = why(capsys, what)
    assert [line[: len(begin)] for line, begin in zip(told, begins, strict=True)] == begins


def test_a_redirect_is_an_answer_and_is_not_followed(capsys: pytest.CaptureFixture[str]) -> None:
    origin = Origin(status=307, headers=[(b"location", b"/b")])
    with live_server(CacheMiddleware(origin, cache=Cache(), rules=[Rule("/a", ttl=60)])) as server:
        told = why(capsys, f"http://127.0.0.1:{server.port}/a", "-H", "Authorization: Bearer a")
    assert told[0] == "307 Temporary Redirect"
    assert [scope["path"] for scope in origin.scopes if scope["type"] == "http"] == ["/a"]


def test_of_several_caches_ours_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    origin = Origin(headers=[(b"cache-status", b"other; hit, else; fwd=miss")])
    with live_server(CacheMiddleware(origin, cache=Cache(), rules=[Rule("/a", ttl=60)])) as server:
        assert why(capsys, f"http://127.0.0.1:{server.port}/a")[1] == "glasscache; fwd=uri-miss; stored"


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["nonsense"], 2, "'nonsense': give a URL, a Cache-Status"),
        (["http://127.0.0.1/", "-H", "x"], 2, "-H 'x': give 'NAME: VALUE'"),
        (["http://127.0.0.1/", "-H", "a: b\nc"], 2, "'http://127.0.0.1/' cannot be asked: Invalid header value"),
        (["http://[::1/"], 2, "'http://[::1/' cannot be asked: Invalid IPv6 URL"),
        (["http://127.0.0.1 /"], 1, "http://127.0.0.1 / does not answer: "),
    ],
)
def test_what_cannot_work_is_refused(
    arguments: list[str], status: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["why", *arguments]) == status
    assert capsys.readouterr().err.startswith(f"glasscache why: {told}")


def test_a_server_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with free_port() as port:
        assert main(["why", f"http://127.0.0.1:{port}/"]) == 1
    assert "does not answer: " in capsys.readouterr().err
