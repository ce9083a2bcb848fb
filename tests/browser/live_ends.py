"""The live page when the connection ends: the server stops, comes back as another process, has enough watchers."""

from __future__ import annotations

import re
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from playwright.sync_api import expect

from tests.browser.conftest import LIVE, TOKEN, Service, serve, tab
from tests.support.patience import PATIENCE
from tests.support.ports import free_port

if TYPE_CHECKING:
    from playwright.sync_api import Browser

expect.set_options(timeout=PATIENCE * 1000)


def wait_on(url: str) -> None:
    """Two of one question: one leads its load, the other waits for it."""
    with httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False) as http, ThreadPoolExecutor(2) as crowd:
        Service(url, http, crowd).crowd_of("/ask?q=1&takes=0.8", 2)


def test_an_open_page_does_not_hold_up_the_server_and_finds_the_next_one(browser: Browser, tmp_path: Path) -> None:
    with free_port() as port:
        with serve(tmp_path / "first", port) as first, tab(browser, first.url) as watched:
            page = watched.open_live()
            expect(page.locator("#worker")).to_have_text(f"answered by worker {first.popen.pid} alone")
            wait_on(first.url)
            expect(page.locator("#waterfalls > li")).to_have_count(1)
            # uvicorn waits for its requests without limit: a feed that did not end would hold it for ever
            assert first.stop(signal.SIGTERM) in (0, -signal.SIGTERM)
            expect(page.get_by_role("status")).to_contain_text("Not connected")
            with serve(tmp_path / "second", port) as second:
                expect(page.get_by_role("status")).to_have_text("Live")
                expect(page.locator("#worker")).to_have_text(f"answered by worker {second.popen.pid} alone")
                expect(page.locator("#said")).to_contain_text("Another process answers now")
                wait_on(second.url)
                holders = page.locator("#waterfalls .holder")
                expect(holders).to_have_text([re.compile(f"^worker {one.popen.pid} ") for one in (second, first)])
                second.stop(signal.SIGINT)
            assert {said for said in watched.complaints if "net::ERR_" not in said} == set()
            assert watched.is_only_here()
        for name in ("first", "second"):
            said = set((tmp_path / name / "stderr").read_text().splitlines())
            assert {line.partition(":")[0] for line in said} == {"waited long for another request's load"}


def test_a_page_that_is_closed_leaves_its_place(browser: Browser, service: Service) -> None:
    for _ in range(10):  # more than may watch at once
        with tab(browser, service.url) as watched:
            watched.open_live()


def test_when_enough_others_watch_it_says_so_and_waits_for_a_place(browser: Browser, service: Service) -> None:
    headers = {b"authorization": b"Bearer " + TOKEN.encode()}
    with ExitStack() as others, tab(browser, service.url) as watched:
        client = others.enter_context(httpx.Client(base_url=service.url, timeout=PATIENCE, trust_env=False))
        for _ in range(8):
            others.enter_context(client.stream("GET", f"{LIVE}/events", headers=headers))
        page = watched.open()
        expect(page.get_by_role("status")).to_contain_text("enough others are watching")
        others.pop_all().close()
        expect(page.get_by_role("status")).to_have_text("Live")
