"""`make live-picture`: docs/live-light.png and docs/live-dark.png, what the page shows of two minutes of real load.

Decides what the visitors ask: few questions, over and over, and now and then many of them the same new one.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from playwright.sync_api import Page, sync_playwright

from tests.browser import parts
from tests.browser.conftest import serve, tab
from tests.support.ports import free_port

DOCS = Path(__file__).parents[2] / "docs"
SECONDS = 125.0
SIZE = {"width": 1200, "height": 1500}


async def visit(url: str, ended: threading.Event) -> None:
    """Twenty visitors, and a crowd every few seconds, until told to go home."""
    dice = random.Random(7)
    limits = httpx.Limits(max_connections=100)
    async with httpx.AsyncClient(base_url=url, timeout=30, limits=limits, trust_env=False) as http:

        async def visitor() -> None:
            while not ended.is_set():
                question = min(int(dice.paretovariate(0.9)), 300)
                path = dice.choice(("/ask", "/ask", "/search"))
                headers = {"authorization": "mine"} if dice.random() < 0.03 else {}
                await http.get(f"{path}?q={question}", headers=headers)
                await asyncio.sleep(dice.random() * 0.2)

        async def crowds() -> None:
            while not ended.is_set():
                await asyncio.sleep(2 + dice.random() * 5)
                question, size = dice.random(), dice.choice((3, 4, 6, 30))
                path = f"/ask?q=new-{question}&takes={0.6 + dice.random():.2f}"
                asking = []
                for _ in range(size):
                    asking.append(asyncio.create_task(http.get(path)))
                    await asyncio.sleep(dice.random() * 0.15)
                await asyncio.gather(*asking)

        await asyncio.gather(crowds(), *(visitor() for _ in range(20)))


def draw(pages: dict[str, Page]) -> None:
    """Each page as it is now."""
    for scheme, page in pages.items():
        page.screenshot(path=DOCS / f"live-{scheme}.png")


def main() -> None:
    """Serve, visit, watch, draw."""
    with tempfile.TemporaryDirectory() as folder, free_port() as port, serve(Path(folder), port) as process:
        ended = threading.Event()
        crowd = threading.Thread(target=lambda: asyncio.run(visit(process.url, ended)))
        crowd.start()
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=parts.chromium(), args=parts.flags())
                dark = tab(browser, process.url, color_scheme="dark", viewport=SIZE)
                with tab(browser, process.url, color_scheme="light", viewport=SIZE) as light, dark as other:
                    pages = {"light": light.open_live(), "dark": other.open_live()}
                    pages["light"].wait_for_timeout(SECONDS * 1000)
                    with ThreadPoolExecutor(6) as held_up:
                        for _ in range(6):
                            held_up.submit(httpx.get, f"{process.url}/ask?q=slow&takes=9", timeout=30, trust_env=False)
                        pages["light"].wait_for_timeout(4000)
                        draw(pages)
                browser.close()
        finally:
            ended.set()
            crowd.join()


if __name__ == "__main__":
    main()
