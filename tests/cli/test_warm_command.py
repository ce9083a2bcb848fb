"""`glasscache warm`, run as a user runs it, against a real server."""

from __future__ import annotations

import io
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from glasscache import Cache
from glasscache.asgi import CacheMiddleware, Rule, json_body
from glasscache.cli import main
from tests.asgi.site import Echo, respond
from tests.support.asgi import Receive, Scope, Send
from tests.support.servers import LiveServer, live_server

RULES = [
    Rule("/docs", ttl=60),
    Rule("/ask", methods=("POST",), ttl=60, key=json_body("question")),
    Rule("/teams", ttl=60, tenant=lambda scope: dict(scope["headers"]).get(b"x-team", b"").decode()),
]


class Service(Echo):
    """Fails where it is told to."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["query_string"] == b"bad":
            await respond(send, b"no", status=500)
            return
        await super().__call__(scope, receive, send)


SERVICE = Service()


@pytest.fixture(scope="module")
def running() -> Iterator[LiveServer]:
    app = CacheMiddleware(SERVICE, cache=Cache(), rules=RULES, stats_path="/stats", stats_token="opensesame")
    with live_server(app) as server:
        yield server


@pytest.fixture
def questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: LiveServer) -> Path:
    monkeypatch.setenv("GLASSCACHE_STATS_TOKEN", "opensesame")
    urllib.request.urlopen(
        urllib.request.Request(
            f"{running.url}/stats/invalidate", b'{"all": true}', {"Authorization": "Bearer opensesame"}
        )
    ).close()
    SERVICE.scopes.clear()
    return tmp_path / "questions.txt"


def test_what_a_file_says_is_warm_afterwards(
    running: LiveServer, questions: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    questions.write_text(
        """# the most asked
        /docs?q=\u00e9

        {"url": "/ask", "body": {"question": "How?"}}
        {"url": "/teams", "headers": {"x-team": "a"}, "tenant": "a"}
        """,
        "utf-8",
    )
    warm = ["warm", "--at", f"{running.url}/stats/", str(questions)]
    assert main(warm) == 0
    assert capsys.readouterr().out == "3 loaded, 0 fresh, 0 not stored, 0 failed\n"
    with urllib.request.urlopen(f"{running.url}/docs?q=%C3%A9") as answer:
        assert answer.headers["cache-status"].startswith("glasscache; hit; ttl=")
    monkeypatch.setenv("WEB_CONCURRENCY", "2")
    assert main([*warm, "--concurrency", "1"]) == 0
    said = capsys.readouterr()
    assert said.out == "0 loaded, 3 fresh, 0 not stored, 0 failed\n"
    assert "one worker of 2 was asked: ask each of them, or let them share Redis or a disk" in said.err
    assert len(SERVICE.scopes) == 3


def test_what_is_not_warm_is_told_line_by_line(
    running: LiveServer, questions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"/docs?{number}" for number in range(20)]
    lines[10:12] = ["/docs?bad", "# a comment", "/nowhere"]
    lines[17] = '{"url": "/teams"}'
    questions.write_text("\n".join(lines))
    assert main(["warm", "--at", f"{running.url}/stats", "--concurrency", "1", str(questions)]) == 1
    said = capsys.readouterr()
    assert said.out == "17 loaded, 0 fresh, 2 not stored, 1 failed\n"
    assert sorted(said.err.splitlines()) == [
        "glasscache warm: line 11: failed: 500",
        "glasscache warm: line 13: not stored: no_rule",
        "glasscache warm: line 18: not stored: unscoped",
    ]


def test_it_reads_standard_input_and_sends_it_in_pieces_that_the_page_takes(
    running: LiveServer, questions: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "x" * 400_000
    lines = [f'{{"url": "/ask", "body": {{"question": "{number} {words}"}}}}' for number in range(4)]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join([*lines, ""])))
    assert main(["warm", "--at", f"{running.url}/stats", "-"]) == 0
    assert capsys.readouterr().out == "4 loaded, 0 fresh, 0 not stored, 0 failed\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert main(["warm", "--at", f"{running.url}/stats", "-"]) == 0
    assert capsys.readouterr().out == "0 loaded, 0 fresh, 0 not stored, 0 failed\n"


def test_paths_are_asked_of_the_site_that_users_ask(running: LiveServer, questions: Path) -> None:
    questions.write_text('/docs\n{"url": "http://elsewhere/docs"}')
    assert main(["warm", "--at", f"{running.url}/stats", "--site", "https://example.com/", str(questions)]) == 0
    asked = sorted((scope["scheme"], dict(scope["headers"])[b"host"], scope["path"]) for scope in SERVICE.scopes)
    assert asked == [("http", b"elsewhere", "/docs"), ("https", b"example.com", "/docs")]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"docs", "line 1: WarmRequest: url 'docs': give path and query"),
        (b'/docs\n{"url": "/docs"', "line 2: Input data was truncated"),
        (b'{"path": "/docs"}', "line 1: Object contains unknown field `path`"),
        (b'{"url": "/docs", "method": "PUT"}', "give GET, POST or QUERY"),
        (b"/\xff", "is no text in UTF-8"),
    ],
)
def test_a_line_that_says_nothing_is_told_by_its_number(
    content: bytes, why: str, running: LiveServer, questions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions.write_bytes(content)
    assert main(["warm", "--at", f"{running.url}/stats", str(questions)]) == 2
    assert why in capsys.readouterr().err


def test_what_cannot_be_asked_is_told(
    running: LiveServer, questions: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = ["warm", "--at", f"{running.url}/stats"]
    assert main([*at, str(questions)]) == 2
    assert "questions.txt: No such file or directory" in capsys.readouterr().err
    questions.write_text("/docs")
    assert main([*at, "--concurrency", "65", str(questions)]) == 2
    assert "--concurrency 65: give a number from 1 to 64" in capsys.readouterr().err
    assert main(["warm", "--at", f"{running.url}/elsewhere", str(questions)]) == 1
    assert "warms nothing: ask for the path of GLASSCACHE_STATS_PATH" in capsys.readouterr().err
    assert main([*at, "--token", "sesame", str(questions)]) == 1
    assert "answers 401 Unauthorized: give its token with --token" in capsys.readouterr().err


def test_a_server_that_stops_meanwhile_is_told(
    running: LiveServer, questions: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glasscache.asgi._warm_page.server_is_stopping", lambda: len(SERVICE.scopes) > 1)
    questions.write_text("\n".join(f"/docs?{number}" for number in range(9)))
    assert main(["warm", "--at", f"{running.url}/stats", "--concurrency", "1", str(questions)]) == 1
    assert "has stopped: no more was warmed from about line 3 on" in capsys.readouterr().err
