"""A real service, a real Chromium, and a page that is watched: what it asks for, what it complains about.

Decides that a test fails if its page sends anything to another host, is stopped by its own policy, or has an error.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.browser import parts
from tests.support.patience import PATIENCE
from tests.support.ports import free_port
from tests.telemetry.processes import Process, running, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

TOKEN = "a token, ümlaut and all"
LIVE = "/metrics/cache/live"
_COMMAND = "-m uvicorn tests.browser.service:app --no-access-log --log-level warning --port"


@contextmanager
def serve(folder: Path, port: int) -> Iterator[Process]:
    """The service on this port, until the block ends."""
    with running([sys.executable, *_COMMAND.split(), str(port)], port, folder, {}) as process:
        yield process


@dataclass
class Service:
    """The service, and those who use it."""

    url: str
    http: httpx.Client
    crowd: ThreadPoolExecutor

    def get(self, path: str) -> httpx.Response:
        return self.http.get(path)

    def ask(self, path: str, times: int) -> None:
        """So many at once; until all are answered."""
        list(self.crowd.map(self.get, [path] * times))

    def gather(self, path: str, times: int) -> Held:
        """So many of a question that is not answered yet: all but one wait for the load, which goes on when let."""
        gate = str(next(_gates))
        asking = [self.crowd.submit(self.get, f"{path}&gate={gate}") for _ in range(times)]
        group = path.partition("?")[0]
        until(lambda: self._waiting(group) == [times - 1], f"{times} to ask {group}")
        return Held(self, gate, asking)

    def _waiting(self, group: str) -> list[int]:
        return [load["waiting"] for load in self.contention()["loads"] if load["key_group"] == group]

    def crowd_of(self, path: str, times: int) -> None:
        """The same, until all are answered: each has waited for all that the load `takes`."""
        self.gather(path, times).let_through()

    def contention(self) -> dict[str, Any]:
        bearer = b"Bearer " + TOKEN.encode()
        found: dict[str, Any] = self.http.get("/metrics/cache/contention", headers={b"authorization": bearer}).json()
        return found


@dataclass
class Held:
    """Requests under way, held up by a gate."""

    service: Service
    gate: str
    asking: list[Future[httpx.Response]]

    def let_through(self) -> None:
        """Until all are answered."""
        self.service.get(f"/open?gate={self.gate}")
        for one in self.asking:
            one.result()


_gates = count()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with free_port() as port, serve(tmp_path, port) as process:
        http = httpx.Client(base_url=process.url, timeout=PATIENCE, trust_env=False)
        with http, ThreadPoolExecutor(32) as crowd:
            yield Service(process.url, http, crowd)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - pytest reads this file where it is not installed, too

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=parts.chromium(), args=parts.flags())
        yield browser
        browser.close()


@dataclass
class Watched:
    """A tab. `complaints`: what its console says, and errors; `addresses`: all that it asked for."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)

    def open(self, token: str = TOKEN) -> Page:
        """Go to the page and tell it the token."""
        self.page.goto(self.url + LIVE)
        self.page.get_by_label("Stats token").fill(token)
        self.page.get_by_role("button", name="Watch").click()
        return self.page

    def open_live(self) -> Page:
        """The same, until figures come."""
        self.open().get_by_role("status").filter(has_text="Live").wait_for()
        return self.page

    def is_only_here(self) -> bool:
        return all(address.startswith((self.url + "/metrics/cache/live", "data:,")) for address in self.addresses)


_TELL = "addEventListener('securitypolicyviolation', (event) => console.error('policy: ' + event.violatedDirective))"


@contextmanager
def tab(browser: Browser, url: str, **options: Any) -> Iterator[Watched]:
    """A new profile with one tab."""
    context: BrowserContext = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    context.set_default_timeout(PATIENCE * 1000)
    context.add_init_script(_TELL)
    watched = Watched(context.new_page(), url)
    watched.page.on("console", lambda message: watched.complaints.append(message.text))
    watched.page.on("pageerror", lambda error: watched.complaints.append(str(error)))
    watched.page.on("request", lambda request: watched.addresses.append(request.url))
    try:
        yield watched
    finally:
        context.close()


@pytest.fixture
def watched(browser: Browser, service: Service) -> Iterator[Watched]:
    """A tab that may not complain, nor ask anyone else."""
    with tab(browser, service.url) as watched:
        yield watched
    assert watched.complaints == []
    assert watched.is_only_here(), watched.addresses
