"""The playground in Chromium, over a small real ranking model: mouse, keyboard, a phone, dark mode, hostile texts."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pandas as pd
import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, Locator, Page, Route, expect, sync_playwright
from small_ranking_model import SmallSite, small_site

from features.online.items import StoredItem
from features.online.state import OnlineState
from features.stores.lmdb_store import LmdbStore
from pipelines.load import load_items_into
from pipelines.serve import listen
from recsys.config import ServingConfig
from recsys.online.open_state import required_store_settings
from recsys.serving.api_keys import KeyFile, create_key
from recsys.serving.app import create_app
from recsys.serving.key_ring import KeyRing
from recsys.serving.service import RankService

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PHONE = {"width": 360, "height": 740}
HOSTILE = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>'
HEBREW = "סערה מתקרבת לחוף"
CONTRAST = (Path(__file__).parent / "fixtures" / "playground" / "contrast.js").read_text(encoding="utf-8")
UNLIMITED = ServingConfig(budget_ms=0)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH to open the playground in")


@pytest.fixture(scope="module")
def site() -> SmallSite:
    return small_site()


def service_over(site: SmallSite, folder: Path) -> RankService:
    state = OnlineState.open(LmdbStore(folder), required_store_settings(site.ranking_model.settings, {}))
    return RankService(site.ranking_model, state, UNLIMITED, ranker="small-ranker/1", encoder="small-encoder/1")


@pytest.fixture(scope="module")
def service(site: SmallSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RankService]:
    """A store with the site's items, three with odd texts, and a click of `reader` on the first two items."""
    made = service_over(site, tmp_path_factory.mktemp("store") / "store")
    load_items_into(made.state, site.ranking_model, site.data / "items.parquet")
    odd = [StoredItem("hostile<b>", HOSTILE), StoredItem("hebrew", HEBREW), StoredItem("{1}", "Braces in its id")]
    made.state.add_items(odd)
    clicks = [{"user_id": "reader", "item_id": item, "timestamp": 1_700_000_000} for item in site.log.catalog.ids[:2]]
    made.writer.add_events(clicks)
    made.warm_up()
    yield made
    made.close()
    made.state.store.close()


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The address of a running server."""
    with closing(listen("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        thread = Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="module")
def address(service: RankService) -> Iterator[str]:
    with served(create_app(service)) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        expect.set_options(timeout=20_000)  # until something is there; a busy machine may be slow
        yield launched
        launched.close()


@contextmanager
def opened(browser: Browser, address: str, **options: Any) -> Iterator[Page]:
    """A new page of the browser; AssertionError where it asked another server, failed, or broke its own policy."""
    with closing(browser.new_context(base_url=address, **options)) as context:
        page = context.new_page()
        page.set_default_timeout(20_000)
        asked: list[str] = []
        said: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        yield page
        assert [url for url in asked if not url.startswith((f"{address}/", "data:"))] == []
        assert [line for line in said if not line.startswith("Failed to load resource: ")] == []  # answers with errors


@pytest.fixture(scope="module")
def tab(browser: Browser, address: str) -> Iterator[Page]:
    with opened(browser, address) as found:
        yield found


@pytest.fixture
def page(tab: Page) -> Page:
    """The playground after its first ranking."""
    tab.unroute_all()
    visit(tab)
    expect(rows(tab)).to_have_count(12)
    return tab


def visit(page: Page) -> None:
    """Open the playground; what it does at first is done on return."""
    page.goto("/")
    expect(page.locator("#answer")).to_have_attribute("aria-busy", "false")


def rows(page: Page, of: str = "Order of the items") -> Locator:
    return page.get_by_role("list", name=of).locator("> li")


def order(page: Page, of: str = "Order of the items") -> list[str]:
    return [str(row.get_attribute("data-item")) for row in rows(page, of).all()]


def titles_of(site: SmallSite) -> dict[str, str]:
    items = pd.read_parquet(site.data / "items.parquet")
    return dict(zip(items["item_id"], items["title"], strict=True))


def summary(page: Page) -> Locator:
    return page.locator("#summary")


def problem(page: Page) -> Locator:
    return page.get_by_role("alert")


def rank(page: Page, *candidates: str, user: str | None = None) -> None:
    """Fill the form and press Rank; the old answer is gone on return."""
    if candidates:
        page.get_by_label("Candidates, one a line").fill("\n".join(candidates))
    if user is not None:
        page.get_by_label("User id").fill(user)
    with page.expect_response("**/v1/rank"):
        page.get_by_role("button", name="Rank", exact=True).click()
    expect(page.locator("#answer")).to_have_attribute("aria-busy", "false")


def ranked(address: str, user: str, candidates: list[str]) -> list[str]:
    answer = httpx.post(f"{address}/v1/rank", json={"user_id": user, "candidates": candidates}).json()
    return [item["item_id"] for item in answer["items"]]


def test_a_ranking_shows_order_titles_scores_times_and_why(page: Page, address: str, site: SmallSite) -> None:
    ids = list(site.log.catalog.ids[10:18])
    rank(page, *ids, user="reader")
    assert order(page) == ranked(address, "reader", ids)
    titles = titles_of(site)
    for place, (item_id, row) in enumerate(zip(order(page), rows(page).all(), strict=True), start=1):
        assert row.locator(".title").inner_text() == titles[item_id]  # asked of the store: no example had them all
        assert row.locator(".place").inner_text().startswith(str(place))
        assert re.search(rf"^{item_id} · score −?\d+\.\d{{4}}", row.locator(".small").first.inner_text())
    assert re.search(r"near to .+ \(\d\.\d\d\)", rows(page).first.inner_text())
    rows(page).first.get_by_text("Why").click()
    groups = rows(page).first.get_by_role("table", name="What groups of columns added to the score")
    assert "text" in groups.inner_text() and "+" in groups.inner_text()
    assert rows(page).first.get_by_role("table", name="Columns of the largest effect").locator("tr").count() > 3
    facts = page.locator(".facts").inner_text()
    for fact in (r"ranker small-ranker/1", r"encoder small-encoder/1", r"rung full", r"server \d+\.\d ms"):
        assert re.search(fact, facts)
    server, round_trip = (float(found) for found in re.findall(r"([\d.]+) ms", facts))
    assert 0 < server < round_trip


def test_unknown_items_and_warnings_are_named(page: Page, site: SmallSite) -> None:
    known = site.log.catalog.ids[3]
    rank(page, known, "typo", known, user="nan")
    assert order(page).count("typo") == 1
    notes = page.locator("#notes").inner_text()
    assert re.search(r"nothing is stored about 1 of the candidates, .*: typo", notes)
    assert "nothing is known of it" in page.locator('[data-item="typo"]').inner_text()
    assert "is a word for nothing" in notes and "1 x is repeated" in notes
    rank(page, known, user="reader")
    expect(page.locator("#notes li")).to_have_count(0)


def test_a_click_is_stored_and_the_order_changes(page: Page, address: str, site: SmallSite) -> None:
    ids = list(site.log.catalog.ids[20:32])
    rank(page, *ids, user="clicker")
    before = order(page)
    clicked = before[-1]
    with page.expect_request("**/v1/events") as sent:
        page.locator(f'[data-item="{clicked}"]').get_by_role("button", name="Click").click()
    (event,) = json.loads(str(sent.value.post_data))["events"]
    assert (event["user_id"], event["item_id"], event["event_type"]) == ("clicker", clicked, "click")
    expect(summary(page)).to_contain_text("After the click on “")
    after = order(page)
    assert after == ranked(address, "clicker", ids) != before
    moved = [item for item in after if after.index(item) != before.index(item)]
    assert f"{len(moved)} of 12 items ha" in summary(page).inner_text()
    for item in ids:
        was, now = before.index(item) + 1, after.index(item) + 1
        place = page.locator(f'[data-item="{item}"] .place').text_content()
        assert (f", {'up' if was > now else 'down'} {abs(was - now)}, was {was}" in str(place)) == (was != now)
    assert "clicked" in page.locator(f'[data-item="{clicked}"] .badge').inner_text()


def test_a_click_adds_to_a_written_history_and_stores_nothing(page: Page, site: SmallSite) -> None:
    ids = list(site.log.catalog.ids[40:46])
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    page.get_by_label("a history that I write").check()
    page.get_by_label("Clicked items").fill(ids[0])
    with page.expect_request("**/v1/rank") as asked:
        rank(page, *ids[1:], '{"item_id": "new", "title": "A rescue dog wins"}')
    body = json.loads(str(asked.value.post_data))
    assert (body["user_id"], body["history"]) == (None, [ids[0]])
    page.get_by_role("button", name="Click A rescue dog wins").click()
    expect(summary(page)).to_contain_text("6 items for a history of 2.\nAfter the click on “A rescue dog wins”")
    field = page.get_by_label("Clicked items").input_value()
    assert field == f'{ids[0]}\n{{"item_id":"new","title":"A rescue dog wins"}}\n'
    assert not [url for url in sent if url.endswith("/v1/events")]


def test_everything_can_be_done_with_the_keyboard(page: Page) -> None:
    assert page.get_by_label("User id").is_visible()
    page.keyboard.press("Tab")  # the link to the API
    for wanted in ("who", "user", "candidates", "words"):
        page.keyboard.press("Tab")
        focused = page.evaluate("document.activeElement.name || document.activeElement.id")
        assert focused == wanted
        if wanted == "user":
            page.keyboard.press("Control+a")
            page.keyboard.type("typist")
    page.keyboard.press("Enter")  # in this field it finds
    expect(page.locator("#found li")).to_have_count(20)
    page.get_by_label("User id").focus()
    page.keyboard.press("Enter")  # in that one it ranks
    expect(summary(page)).to_contain_text("12 items for user typist")
    last = order(page)[-1]
    for _ in range(90):
        page.keyboard.press("Tab")
        focused = page.evaluate("document.activeElement.closest('#lists [data-item]')?.dataset.item")
        if focused == last and page.evaluate("document.activeElement.tagName") == "BUTTON":
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    expect(summary(page)).to_contain_text("After the click on")
    assert page.evaluate("document.activeElement.closest('[data-item]').dataset.item") == last  # where it went
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # Why
    expect(page.locator(f'[data-item="{last}"] details')).to_have_attribute("open", "")
    page.get_by_label("a user", exact=True).focus()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_label("Clicked items")).to_be_visible()


def test_every_text_has_the_contrast_of_wcag_aa_in_light_and_dark(browser: Browser, address: str) -> None:
    with opened(browser, address) as page:
        challenged(page)
        visit(page)
        page.locator("#options summary").click()
        rank(page, "typo", "hebrew", "hostile<b>", user="reader")
        page.locator(".why summary").first.click()
        page.evaluate("document.querySelectorAll('[hidden]').forEach((one) => { one.hidden = false; })")
        page.evaluate("document.getElementById('problem').textContent = 'Something failed.'")
        for scheme, ink in (("light", "rgb(27, 31, 36)"), ("dark", "rgb(230, 233, 237)")):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            assert page.evaluate("getComputedStyle(document.body).color") == ink
            assert page.evaluate(CONTRAST) == [], scheme


def test_nothing_is_wider_than_a_phone(browser: Browser, address: str) -> None:
    with opened(browser, address, viewport=PHONE, has_touch=True, is_mobile=True) as page:
        challenged(page)
        visit(page)
        long = json.dumps({"item_id": "long", "title": "W" * 300})
        rank(page, "x" * 200, "hostile<b>", "hebrew", long, user="reader")
        assert page.evaluate("document.getElementById('answer').getBoundingClientRect().top") < PHONE["height"] / 2
        page.locator("#options summary").tap()
        for why in page.locator(".why summary").all():
            why.tap()
        page.get_by_label("Find stored items").fill("a")
        page.get_by_role("button", name="Find", exact=True).tap()
        expect(page.locator("#found li").first).to_be_visible()
        page.evaluate("document.querySelectorAll('[hidden]').forEach((one) => { one.hidden = false; })")
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        wide = "[...document.querySelectorAll('main *')].filter((one) => one.getBoundingClientRect().right > 360.5)"
        assert page.evaluate(f"{wide}.map((one) => one.outerHTML.slice(0, 80))") == []


def challenged(page: Page) -> None:
    """Let the server have a challenger that turns the order around, as far as this page is told."""

    def with_challenger(route: Route) -> None:
        model = {"ranker": "small-ranker/2", "encoder": "small-encoder/1"}
        ready = route.fetch().json()
        route.fulfill(json={**ready, "challenger": {"model": model, "model_from": "registry", "share": 0.1}})

    def by_variant(route: Route) -> None:
        body = json.loads(str(route.request.post_data))
        variant = body.pop("variant", None)
        fetched = route.fetch(post_data=json.dumps(body))
        answer = fetched.json()
        if variant == "challenger" and fetched.ok:
            answer["model"]["ranker"] = "small-ranker/2"
            n = len(answer["items"])
            turned = [item | {"rank": n + 1 - item["rank"], "score": -item["score"]} for item in answer["items"]]
            answer["items"] = turned[::-1]
        route.fulfill(response=fetched, json=answer)

    page.route("**/health/ready", with_challenger)
    page.route("**/v1/rank", by_variant)


def test_champion_and_challenger_stand_beside_each_other(browser: Browser, address: str, site: SmallSite) -> None:
    ids = list(site.log.catalog.ids[50:55])
    with opened(browser, address) as page:
        challenged(page)
        visit(page)
        rank(page, *ids, user="judge")
        expect(rows(page, "Order of the challenger")).to_have_count(5)
        one, other = order(page, "Order of the champion"), order(page, "Order of the challenger")
        assert one == other[::-1] == ranked(address, "judge", ids)
        assert [heading.inner_text() for heading in page.locator("h3").all()] == [
            "Champion small-ranker/1",
            "Challenger small-ranker/2",
        ]
        assert re.search(r"4 of 5 items have another place; “.+” moved most, from 5 to 1", summary(page).inner_text())
        first = rows(page, "Order of the challenger").first.locator(".other")
        assert first.text_content() == "champion: 5 ▲ 4, up 4, was 5"
        assert "(same)" in rows(page, "Order of the champion").nth(2).inner_text()
        rows(page, "Order of the challenger").first.get_by_role("button").click()
        expect(summary(page)).to_contain_text("After the click on")
        assert page.evaluate("document.activeElement.closest('ol').ariaLabel") == "Order of the challenger"
        page.get_by_label("champion beside challenger").uncheck()
        expect(rows(page)).to_have_count(5)


def test_without_a_challenger_there_is_nothing_to_compare(page: Page) -> None:
    expect(page.get_by_label("champion beside challenger")).to_be_hidden()
    expect(page.locator("#versions")).to_have_text("Champion small-ranker/1 with small-encoder/1")


def test_a_challenger_that_fails_leaves_the_champions_order(browser: Browser, address: str) -> None:
    with opened(browser, address) as page:
        challenged(page)
        page.route(
            "**/v1/rank",
            lambda route: route.fallback(post_data=str(route.request.post_data).replace("challenger", "champion")),
        )
        visit(page)
        expect(page.locator("#notes")).to_contain_text("The challenger failed on this request")
        error = {"error": {"code": "invalid_request", "message": "there is no challenger", "field": "variant"}}
        page.route(
            "**/v1/rank",
            lambda route: (
                route.fulfill(status=422, json=error)
                if "challenger" in str(route.request.post_data)
                else route.fallback()
            ),
        )
        rank(page)
        expect(problem(page)).to_have_text("Challenger: variant: there is no challenger (422 invalid_request)")
        expect(rows(page, "Order of the champion")).to_have_count(12)


def test_a_key_is_asked_for_explained_and_forgotten_at_a_reload(
    browser: Browser, service: RankService, tmp_path: Path
) -> None:
    source = KeyFile(tmp_path / "keys.json")
    keys = {scope: create_key(source, scope, scope) for scope in ("read", "write")}  # type: ignore[arg-type]
    with served(create_app(service, KeyRing(source))) as guarded, opened(browser, guarded) as page:
        visit(page)
        expect(problem(page)).to_contain_text("answers requests with an API key only")
        assert page.evaluate("document.activeElement.id") == "key"
        enter_key(page, "wrong")
        expect(problem(page)).to_contain_text("the API key is not known")
        enter_key(page, keys["read"])
        expect(rows(page)).to_have_count(12)
        expect(problem(page)).to_be_hidden()
        rows(page).last.get_by_role("button").click()
        expect(problem(page)).to_contain_text("The key may not do this. POST /v1/events: expected a key of scope")
        enter_key(page, keys["write"])
        expect(problem(page)).to_be_hidden()
        rows(page).last.get_by_role("button").click()
        expect(summary(page)).to_contain_text("After the click on")
        kept = "JSON.stringify([localStorage, sessionStorage, document.cookie, location.href])"
        assert not any(key in page.evaluate(kept) for key in keys.values())
        page.reload()
        expect(problem(page)).to_contain_text("an API key only")


def enter_key(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    with page.expect_response("**/v1/examples"):
        page.get_by_label("API key").press("Enter")


def test_errors_are_said_in_words_and_name_the_line(page: Page) -> None:
    before = order(page)
    for line, expected in (
        ('{"title": "No id"}', "candidates, line 3: expected an id or an object with item_id"),
        ('{"item_id": "a", }', "candidates, line 3: expected an id or one JSON object, got JSON that cannot be read"),
    ):
        page.get_by_label("Candidates, one a line").fill(f"a\n\n{line}")
        page.get_by_role("button", name="Rank", exact=True).click()
        expect(problem(page)).to_contain_text(expected)
    rank(page, "a", "", '{"item_id": "b", "title": 7}')
    expect(problem(page)).to_contain_text("candidates, line 3: candidates.1.title: Input should be a valid string (422")
    rank(page, json.dumps([f"id-{i}" for i in range(1001)]))  # many lines take Chromium seconds to fill in
    expect(problem(page)).to_contain_text("expected at most 1,000 candidates, got 1,001")
    page.get_by_label("Candidates, one a line").fill("")
    page.get_by_role("button", name="Rank", exact=True).click()
    expect(problem(page)).to_have_text("Write at least one candidate.")
    assert order(page) == before
    page.get_by_label("User id").fill("")
    rank(page, "a", "b")
    rows(page).first.get_by_role("button").click()
    expect(problem(page)).to_contain_text("A click needs a user")
    refused = {"accepted": 0, "rejected": [{"index": 0, "code": "forgotten_user", "message": "the user is forgotten"}]}
    page.route("**/v1/events", lambda route: route.fulfill(json=refused))
    rank(page, user="u")
    rows(page).first.get_by_role("button").click()
    expect(problem(page)).to_have_text("The click was refused: the user is forgotten")


def test_a_server_that_is_busy_or_gone_is_said_in_words(page: Page) -> None:
    busy = {"error": {"code": "overloaded", "message": "64 requests wait"}}
    page.route("**/v1/rank", lambda route: route.fulfill(status=503, json=busy))
    rank(page)
    expect(problem(page)).to_contain_text("try again in a moment. 64 requests wait (503 overloaded)")
    page.route("**/v1/rank", lambda route: route.fulfill(status=502, body="<h1>Bad Gateway</h1>"))
    rank(page)
    expect(problem(page)).to_have_text("The server answered 502 without a reason.")
    page.route("**/v1/rank", lambda route: route.abort())
    page.get_by_role("button", name="Rank", exact=True).click()
    expect(problem(page)).to_have_text("The server cannot be reached. Is it still running?")
    page.unroute("**/v1/rank")
    rank(page)
    expect(problem(page)).to_be_hidden()


def test_a_lower_rung_is_named_with_its_reason(page: Page, address: str) -> None:
    def lower(route: Route) -> None:
        assert route.request.headers["x-budget-ms"] == "1"
        answer = route.fetch().json()
        items = [{name: item[name] for name in ("item_id", "score", "rank")} for item in answer["items"]]
        route.fulfill(json={**answer, "rung": "popularity", "items": items})

    page.route("**/v1/rank", lower)
    page.locator("#options summary").click()
    page.get_by_label("Budget in ms").fill("1")
    rank(page)
    expect(page.locator(".facts")).to_contain_text("rung popularity (by clicks in memory)")
    expect(page.locator("#notes")).to_have_text("No explanations: none are made on the rung popularity.")


def test_texts_of_the_store_are_never_read_as_html(page: Page) -> None:
    page.get_by_label("Find stored items").fill("onerror")
    page.get_by_role("button", name="Find", exact=True).click()
    expect(page.locator("#found li")).to_have_count(1)
    inline = json.dumps({"item_id": "<i>new</i>", "title": HOSTILE})
    rank(page, "hostile<b>", "hebrew", inline, user="<u>reader</u>")
    page.locator('[data-item="hostile<b>"]').get_by_role("button").click()
    expect(summary(page)).to_contain_text(f"3 items for user <u>reader</u>.\nAfter the click on “{HOSTILE}”")
    rank(page, "<img src=y onerror=alert()>", user="reader")
    expect(page.locator("#notes")).to_contain_text(": <img src=y onerror=alert()>")
    rank(page, "hostile<b>", "hebrew", inline)
    assert page.locator('[data-item="hostile<b>"] .title').inner_text() == HOSTILE
    assert page.locator("main img, main script, main i, main u").count() == 0
    assert page.evaluate("window.hit") is None
    hebrew = page.locator('[data-item="hebrew"] .title')
    assert (hebrew.inner_text(), hebrew.evaluate("(one) => getComputedStyle(one).direction")) == (HEBREW, "rtl")


def test_items_are_found_and_added_new_ones_too(page: Page, site: SmallSite) -> None:
    page.get_by_label("Candidates, one a line").fill("")
    title = titles_of(site)[site.log.catalog.ids[7]]
    page.get_by_label("Find stored items").fill(title.upper())
    page.get_by_label("Find stored items").press("Enter")
    expect(page.locator("#found-status")).to_contain_text("found")
    page.get_by_role("button", name=f"Add {title} to the candidates").first.click()
    page.get_by_label("Find stored items").fill("braces")
    page.get_by_label("Find stored items").press("Enter")
    page.get_by_role("button", name="Add Braces in its id to the candidates").click()
    page.get_by_label("Find stored items").fill("Words nobody wrote")
    page.get_by_role("button", name="Add as new").click()
    page.get_by_role("button", name="Add as new").click()
    field = page.get_by_label("Candidates, one a line").input_value()
    new = [f'{{"item_id":"new-{i}","title":"Words nobody wrote"}}' for i in (1, 2)]
    assert field.splitlines()[1:] == ['"{1}"', *new]
    rank(page)
    assert set(order(page)) >= {"{1}", "new-1", "new-2"}
    page.get_by_label("Candidates, one a line").fill('["hebrew", {"item_id": 5, "title": "Five"}]')
    rank(page)
    assert set(order(page)) == {"hebrew", "5"}
    expect(page.locator('[data-item="5"] .title')).to_have_text("Five")


def test_a_store_without_data_is_explained_and_ranks_new_items(
    browser: Browser, site: SmallSite, tmp_path: Path
) -> None:
    service = service_over(site, tmp_path / "store")
    with served(create_app(service)) as empty, opened(browser, empty) as page:
        visit(page)
        expect(page.locator("#empty")).to_contain_text("The store holds no items yet. recsys load-items FILE")
        expect(rows(page)).to_have_count(3)
        expect(summary(page)).to_contain_text("for a user without history")
    service.close()
    service.state.store.close()


FILLED_IN = [("post", "/v1/rank"), ("post", "/v1/events"), ("post", "/v1/items"), ("get", "/v1/items/{item_id}")]
"""Operations with a body or an id; tests/test_serving.py has all of them, without a browser."""


def test_examples_of_the_api_page_run_as_filled_in(browser: Browser, address: str) -> None:
    with opened(browser, address) as page:
        page.goto("/docs")
        for method, path in FILLED_IN:
            has_path = page.locator(f'[data-path="{path}"]')
            operation = page.locator(f".opblock-{method}").filter(has=has_path)
            operation.locator(".opblock-summary-control").click()
            operation.get_by_role("button", name="Execute").click()
            status = operation.locator(".live-responses-table .response-col_status").last
            expect(status).to_have_text("200")
            answer = operation.locator(".live-responses-table .response-col_description").last.inner_text()
            if '"accepted"' in answer:
                assert re.search(r'"accepted": 1,\s+"rejected": \[\]', answer)
