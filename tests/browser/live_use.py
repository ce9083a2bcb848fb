"""The live page in use, over real load: who is let in, what it draws, and that everybody can use it."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import axe_playwright_python
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import LIVE, TOKEN, Service, Watched, tab
from tests.browser.parts import SHOTS
from tests.support.patience import PATIENCE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text("utf-8")
REFUSED = "Failed to load resource: the server responded with a status of 401 (Unauthorized)"
expect.set_options(timeout=PATIENCE * 1000)


def tile(page: Page, name: str) -> Any:
    return page.locator("#tiles > div").filter(has=page.get_by_text(name, exact=True)).locator("dd")


def broken_rules(page: Page) -> list[str]:
    """What axe finds: accessibility rules that the page breaks, and where."""
    page.evaluate(AXE)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [f"{one['id']}: {node['html']}" for one in found["violations"] for node in one["nodes"]]


# --- who is let in --------------------------------------------------------------------------------------------------


def test_the_page_asks_for_the_token_and_says_when_it_is_wrong(browser: Browser, service: Service) -> None:
    with tab(browser, service.url) as watched:
        page = watched.page
        page.goto(service.url + LIVE)
        expect(page.get_by_label("Stats token")).to_be_focused()
        expect(page.locator("#view")).to_be_hidden()
        page.keyboard.type("nonsense")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_have_text("That is not the token that this server expects.")
        expect(page.get_by_label("Stats token")).to_be_focused()
        page.keyboard.type(TOKEN)
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_have_text("Live")
        expect(page.get_by_role("heading", level=1)).to_have_text("glasscache knowledge")
        assert watched.complaints == [REFUSED]  # Chromium's own words about an answer of 401
        assert watched.is_only_here()


def test_the_token_stays_in_the_tab_and_is_forgotten_on_demand(watched: Watched) -> None:
    page = watched.open_live()
    page.reload()
    expect(page.get_by_role("status")).to_have_text("Live")
    kept = page.evaluate("[Object.values(sessionStorage), Object.keys(localStorage), document.cookie]")
    assert kept == [[TOKEN], [], ""]
    assert not any("token" in address for address in watched.addresses)
    page.get_by_role("button", name="Forget token").click()
    expect(page.get_by_label("Stats token")).to_be_focused()
    assert page.evaluate("Object.keys(sessionStorage)") == []
    page.reload()
    expect(page.get_by_label("Stats token")).to_be_visible()


def test_a_link_may_bring_the_token_and_does_not_keep_it(watched: Watched) -> None:
    page = watched.page
    page.goto(f"{watched.url}{LIVE}#token=a%20token,%20%C3%BCmlaut%20and%20all")
    expect(page.get_by_role("status")).to_have_text("Live")
    assert page.url == watched.url + LIVE


# --- what it draws --------------------------------------------------------------------------------------------------


def test_before_anything_happened_it_says_so(watched: Watched) -> None:
    page = watched.open_live()
    expect(page.get_by_text("No load is under way.")).to_be_visible()
    expect(page.locator("#explain")).to_contain_text("No request has waited longer than 200 ms for another")
    expect(tile(page, "Hit rate, last 2 min")).to_have_text("\N{EN DASH}")
    expect(tile(page, "Entries")).to_have_text("0 / 500")


def test_figures_move_while_the_service_is_used(watched: Watched, service: Service) -> None:
    page = watched.open_live()
    service.ask("/ask?q=once&takes=0.3", 1)
    for _ in range(5):
        service.ask("/ask?q=once&takes=0.3", 20)
    expect(tile(page, "Entries")).to_have_text("1 / 500")
    expect(tile(page, "Hit rate, last 2 min")).to_have_text("99.0 %")
    saved = service.http.get("/metrics/cache").json()["saved_seconds"]
    expect(tile(page, "Time saved")).to_have_text(re.compile(rf"{saved:.0f}\.\d\ss|{saved:.1f}\ss"))
    paths = page.locator("#outcomes path")
    expect(paths.nth(0)).to_have_attribute("d", re.compile("^M.*L.*Z$"))
    drawn = paths.nth(0).get_attribute("d")
    expect(paths.nth(0)).not_to_have_attribute("d", drawn or "")


def test_the_quantiles_are_those_of_what_happened(watched: Watched, service: Service) -> None:
    page = watched.open_live()
    service.ask("/ask?q=1&takes=0.4", 1)
    expect(tile(page, "Miss, p99")).to_have_text(re.compile("s$"))
    value, unit = tile(page, "Miss, p99").inner_text().split()
    took = service.http.get("/metrics/cache").json()["avg_miss_time_ms"]  # of the one
    assert float(value) * {"ms": 1, "s": 1000}[unit] == pytest.approx(took, rel=1 / 6)


def test_what_goes_past_the_cache_is_told_with_what_to_change(watched: Watched, service: Service) -> None:
    page = watched.open_live()
    section = page.get_by_role("region", name="Not from the cache, and why")
    expect(section).to_be_hidden()
    for _ in range(2):
        service.http.get("/ask?q=1&takes=0", headers={"authorization": "canary"})
    service.http.get("/ask?q=1&takes=0", headers={"if-match": '"a"'})
    expect(section.get_by_role("rowheader")).to_have_text(["credentials", "precondition"])  # the most frequent first
    first = section.get_by_role("row").nth(1)
    expect(first.get_by_role("cell").nth(0)).to_have_text("2")
    expect(first.get_by_role("cell").nth(2)).to_contain_text("one for all: shared=True")
    assert "canary" not in page.content()


def test_a_load_under_way_shows_who_waits_for_it(watched: Watched, service: Service) -> None:
    page = watched.open_live()
    alone = service.gather("/search?q=alone&takes=0.1", 1)
    expect(page.get_by_role("rowheader")).to_have_text("/search")
    crowd = service.gather("/ask?q=canary&takes=0.1", 4)
    expect(page.get_by_role("rowheader")).to_have_text(["/ask", "/search"])  # the one with most readers first
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="/ask"))
    expect(row.get_by_role("cell").nth(2)).to_have_text("3")
    load = service.contention()["loads"][0]
    expect(row.get_by_role("cell").nth(0)).to_have_text(load["key_hash"])
    expect(row.get_by_role("button")).to_have_attribute("title", load["holder"]["trace_id"])
    assert "canary" not in page.content()
    for held in (alone, crowd):
        held.let_through()
    expect(page.get_by_text("No load is under way.")).to_be_visible()


def test_the_waterfall_shows_who_waited_for_whom(watched: Watched, service: Service) -> None:
    page = watched.open_live()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    service.crowd_of("/ask?q=canary&takes=0.8", 5)
    item = page.locator("#waterfalls > li")
    expect(item).to_have_count(1)
    expect(item.get_by_role("heading")).to_have_text("/ask")
    expect(item.locator(".summary")).to_contain_text("4 waited, the longest")
    told = service.contention()["contentions"]
    rows = item.locator(".rows > li")
    expect(rows).to_have_count(5)
    expect(rows.nth(0)).to_contain_text(re.compile(r"worker \d+ loaded for \d"))
    expect(rows.nth(0).get_by_role("button")).to_have_attribute("title", told[0]["holder"]["trace_id"])
    shown = [rows.nth(index).get_by_role("button").get_attribute("title") for index in range(1, 5)]
    assert shown == [one["waiter"]["trace_id"] for one in reversed(told)]
    lanes = [rows.nth(index).locator(".lane i").bounding_box() for index in range(5)]
    starts = [lane["x"] for lane in lanes if lane]
    assert all(one <= after + 1 for one, after in pairwise(starts))  # to a pixel: some came at once
    ends = [lane["x"] + lane["width"] for lane in lanes if lane]
    assert ends[0] <= min(ends) + 1  # nobody is let go before the load is over
    rows.nth(2).get_by_role("button").click()
    expect(page.locator("#said")).to_have_text(f"Trace id {shown[1]} copied.")
    assert page.evaluate("navigator.clipboard.readText()") == shown[1]
    assert "canary" not in page.content()


def test_waits_can_be_narrowed_to_a_group_and_ordered_by_length(watched: Watched, service: Service) -> None:
    page = watched.open_live()
    for path in ("/ask?q=1&takes=3", "/search?q=2&takes=0.4", "/search?q=3&takes=0.8"):
        service.crowd_of(path, 3)
    headings = page.locator("#waterfalls h3")
    expect(headings).to_have_text(["/search", "/search", "/ask"])
    page.get_by_label("Order").select_option("longest wait first")
    expect(headings).to_have_text(["/ask", "/search", "/search"])
    page.get_by_label("Key group").select_option("/search")
    expect(headings).to_have_text(["/search", "/search"])


def test_a_failed_load_is_told_apart_from_one_that_served(watched: Watched, service: Service) -> None:
    page = watched.open_live()
    service.crowd_of("/fail?takes=0.4", 3)
    rows = page.locator("#waterfalls .rows > li")
    expect(rows.nth(1)).to_contain_text("the load failed")
    assert rows.nth(1).locator(".lane i").get_attribute("data-outcome") == "holder_failed"


def test_many_loads_are_shown_a_few_at_first(watched: Watched, service: Service) -> None:
    page = watched.open_live()
    for number in range(10):
        service.crowd_of(f"/ask?q={number}&takes=0.3", 2)
    items = page.locator("#waterfalls > li")
    expect(page.get_by_role("button", name="Show all 10")).to_be_visible()
    expect(items).to_have_count(8)
    page.get_by_role("button", name="Show all 10").click()
    expect(items).to_have_count(10)


def test_paused_it_stands_still_and_catches_up(watched: Watched, service: Service) -> None:
    page = watched.open_live()
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("status")).to_have_text("Paused")
    service.crowd_of("/ask?q=1&takes=0.4", 3)
    with page.expect_event("console", lambda message: message.text == "later"):  # a while of real updates
        page.evaluate("setTimeout(() => console.log('later'), 1500)")
    watched.complaints.remove("later")
    assert tile(page, "Entries").inner_text() == "0 / 500"
    assert page.locator("#waterfalls > li").count() == 0
    page.get_by_role("button", name="Pause").click()
    expect(tile(page, "Entries")).to_have_text("1 / 500")
    expect(page.locator("#waterfalls > li")).to_have_count(1)


# --- for everybody --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 320])
def test_no_rule_of_accessibility_is_broken_in_any_light_or_width(
    browser: Browser, service: Service, scheme: str, width: int
) -> None:
    with tab(browser, service.url, color_scheme=scheme, viewport={"width": width, "height": 900}) as watched:
        page = watched.page
        page.goto(service.url + LIVE)
        assert broken_rules(page) == []
        watched.open_live()
        for number in range(3):
            service.crowd_of(f"/ask?q={number}&takes=1", 9)
        under_way = service.gather("/search?q=1&takes=0.1", 1)
        expect(page.locator("#waterfalls > li")).to_have_count(3)
        expect(page.get_by_role("rowheader", name="/search")).to_be_visible()
        assert broken_rules(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        SHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SHOTS / f"{scheme}-{width}.png", full_page=True)
        under_way.let_through()
        assert watched.complaints == []


def test_everything_is_reached_and_worked_by_the_keyboard(watched: Watched, service: Service) -> None:
    page = watched.open_live()
    service.crowd_of("/ask?q=1&takes=0.6", 3)
    expect(page.locator("#waterfalls > li")).to_have_count(1)
    page.locator("h1").click()
    reached = []
    for _ in range(11):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.ariaLabel || ''"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert reached[:3] == ["pause", "forget", "Requests per second, by outcome: seconds ago"]
    assert reached[6:8] == ["group", "order"]
    assert [name.partition(" ")[0] for name in reached[8:]] == ["Copy", "Copy", "Copy"]
    page.locator("#pause").focus()
    page.keyboard.press("Space")
    expect(page.locator("#pause")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Enter")
    expect(page.locator("#pause")).to_have_attribute("aria-pressed", "false")


def test_a_chart_is_read_by_arrow_keys_and_by_the_pointer(watched: Watched, service: Service) -> None:
    page = watched.open_live()
    service.ask("/ask?q=1&takes=0.3", 3)
    chart = page.get_by_role("slider", name="Waiting now")
    chart.focus()
    expect(chart).to_have_attribute("aria-valuetext", re.compile(r"^now: waiters \d+, loads \d+$"))
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("PageDown")
    expect(chart).to_have_attribute("aria-valuenow", "-11")
    expect(page.locator("#outcomes .moment")).to_have_text("11 s ago")
    page.keyboard.press("Home")
    expect(chart).to_have_attribute("aria-valuenow", "-120")
    page.keyboard.press("Escape")
    expect(chart).to_have_attribute("aria-valuetext", re.compile("^now: "))
    chart.hover(position={"x": 300, "y": 50})
    expect(page.locator("#latency .moment")).to_have_text(re.compile(r"^\d+ s ago$"))
    page.locator("h1").hover()
    expect(page.locator("#latency .moment")).to_have_text("now")


def test_what_has_the_focus_keeps_it_while_figures_come(watched: Watched, service: Service) -> None:
    page = watched.open_live()
    service.crowd_of("/ask?q=1&takes=0.4", 3)
    button = page.locator("#waterfalls button").first
    button.focus()
    focused = button.get_attribute("title")
    for number in range(2, 4):
        service.crowd_of(f"/ask?q={number}&takes=0.4", 3)
    expect(page.locator("#waterfalls > li")).to_have_count(3)
    assert page.evaluate("document.activeElement.title") == focused


def test_who_wants_no_motion_gets_none(browser: Browser, service: Service) -> None:
    beat = "getComputedStyle(document.querySelector('#state'), '::before').animationName"
    for motion, name in (("reduce", "none"), ("no-preference", "beat")):
        with tab(browser, service.url, reduced_motion=motion) as watched:
            assert watched.open_live().evaluate(beat) == name
