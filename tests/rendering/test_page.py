"""The page of a table in a real browser: it sorts, filters, fits a phone, and talks to nobody."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import handmade_table
import pytest
from handmade import constant

from mtlbench.record.runs import Collection, Run
from mtlbench.rendering.files import write_all
from mtlbench.rendering.text import one_line
from mtlbench.tables.making import make, write

TABLE = handmade_table.table()
HOSTILE = handmade_table.hostile()
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LABELS = (
    "return [...document.querySelectorAll('tbody tr[data-label]')].filter(r => !r.hidden).map(r => r.dataset.label)"
)


class Browser:
    """A page in headless Chromium, and what it said and asked for."""

    def __init__(self, driver: Any, folder: Path) -> None:
        self.driver = driver
        self.folder = folder

    def open(self, file: str, width: int = 1280, scheme: str = "light") -> str:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get("about:blank")
        self.driver.get_log("performance")  # requests of the page before
        address = (self.folder / file).as_uri()
        self.driver.get(address)
        return address

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def labels(self) -> list[str]:
        """The rows that can be seen, from the top."""
        return list(self.run(LABELS))

    def sort(self, title: str) -> None:
        for button in self.driver.find_elements("css selector", "thead button"):
            if button.text.replace("\u00a0", " ").startswith(title):
                button.click()
                return
        raise AssertionError(title)

    def requests(self) -> list[str]:
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return [params["request"]["url"] for params in sent]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    selenium = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    helper = shutil.which("chromedriver")
    if program is None or helper is None:
        pytest.skip("chromium and chromedriver are not installed")
    folder = tmp_path_factory.mktemp("pages")
    figure = folder / f"{TABLE.slug}-cost.svg"
    figure.write_text('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 2 1"><rect width="2" height="1"/></svg>')
    write_all([TABLE, HOSTILE], folder, {TABLE.slug: [figure]})
    options = selenium.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = selenium.Chrome(options=options, service=Service(helper))
    yield Browser(driver, folder)
    driver.quit()


@pytest.fixture
def page(browser: Browser) -> Browser:
    """The page of the ordinary table; whatever a test does there, the console stays clean and nothing is fetched."""
    browser.open(f"leaderboards/{TABLE.slug}.html")
    return browser


@pytest.fixture(autouse=True)
def clean_console(browser: Browser) -> Iterator[None]:
    yield
    assert browser.driver.get_log("browser") == []


def test_the_page_of_a_real_leaderboard_sorts_and_holds_its_figures(browser: Browser) -> None:
    scores = {"single_task": 95.0, "uniform": 90.0, "gradvac": 92.0, "mgda": 91.0, "pcgrad": 89.0}
    records = [r for method, x in scores.items() for r in constant(method, [(x, 80.0), (x + 1, 81.0), (x - 1, 79.5)])]
    write(make(Collection([Run.of(r) for r in records])), browser.folder / "real")
    address = browser.open("real/leaderboards/multimnist-digits-digits-1.html")
    assert browser.labels() == ["single_task", "gradvac", "mgda", "uniform", "pcgrad"]
    browser.sort("left")
    browser.sort("left")
    assert browser.labels() == ["single_task", "pcgrad", "uniform", "mgda", "gradvac"]
    assert [url for url in browser.requests() if not url.startswith("data:")] == [address]
    assert browser.run("return [...document.images].map(i => i.naturalWidth > 0)") == [True] * 4


METHODS = ["gradvac(beta=0.01)", "imtl", "pcgrad", "mgda(normalize=loss+,solver=frank_wolfe)", "uniform"]
GRADVAC, IMTL, PCGRAD, MGDA, UNIFORM = METHODS
PUBLISHED = "Sener and Koltun 2018, MGDA"


def test_a_click_sorts_best_first_and_another_reverses_but_missing_values_stay_last(page: Browser) -> None:
    assert page.labels() == ["single_task", *METHODS, PUBLISHED]
    page.sort("left accuracy")
    assert page.labels() == ["single_task", GRADVAC, PCGRAD, UNIFORM, MGDA, IMTL, PUBLISHED]
    page.sort("left accuracy")
    assert page.labels() == ["single_task", MGDA, UNIFORM, PCGRAD, GRADVAC, IMTL, PUBLISHED]
    page.sort("left loss")  # lower is better
    assert page.labels() == ["single_task", GRADVAC, PCGRAD, UNIFORM, MGDA, IMTL, PUBLISHED]
    page.sort("left loss")
    assert page.labels() == ["single_task", MGDA, UNIFORM, PCGRAD, GRADVAC, IMTL, PUBLISHED]
    page.sort("Method")
    assert page.labels() == ["single_task", GRADVAC, IMTL, MGDA, PCGRAD, UNIFORM, PUBLISHED]
    state = page.run("return [...document.querySelectorAll('th[aria-sort]')].map(h => h.getAttribute('aria-sort'))")
    assert state == ["ascending"]


def test_numbers_sort_as_numbers(page: Browser) -> None:
    page.sort("ms/step")  # 9.8 after 10.2 would be a sort of texts
    values = page.run("return [...document.querySelectorAll('tbody.method td:nth-child(9)')].map(d => d.dataset.value)")
    numbers = [float(value) for value in values if value is not None]
    assert numbers == sorted(numbers)
    assert values[-1] is None


def test_the_filter_hides_rows_but_never_the_reference(page: Browser) -> None:
    from selenium.webdriver.common.keys import Keys

    box = page.driver.find_element("css selector", "input[type=search]")
    box.send_keys("GRAD")
    assert page.labels() == ["single_task", GRADVAC, PCGRAD]
    assert page.driver.find_element("css selector", ".found").text == "2 of 6 rows"
    assert not page.driver.find_element("css selector", ".published .title").is_displayed()
    box.send_keys(Keys.BACKSPACE * 4)
    assert len(page.labels()) == 7


def test_a_column_can_be_hidden(page: Browser) -> None:
    page.driver.find_element("css selector", ".choice summary").click()
    boxes = page.driver.find_elements("css selector", ".choice input")
    assert len(boxes) == 1 + len(TABLE.columns)
    boxes[1].click()
    shown = page.run("return [...document.querySelectorAll('thead th')].filter(h => !h.hidden).map(h => h.innerText)")
    assert not [text for text in shown if "left" in text and "accuracy" in text]
    assert len(shown) == 1 + len(TABLE.columns)


@pytest.mark.parametrize("file", [f"leaderboards/{TABLE.slug}.html", "leaderboards/hostile.html"])
def test_the_page_requests_nothing_but_itself(browser: Browser, file: str) -> None:
    address = browser.open(file)
    browser.sort("n")
    requests = [url for url in browser.requests() if not url.startswith("data:")]
    assert requests == [address]


def test_the_index_requests_only_what_stands_beside_it(browser: Browser) -> None:
    address = browser.open("index.html")
    requests = [url for url in browser.requests() if not url.startswith("data:")]
    assert requests[0] == address
    assert {*requests[1:]} == {(browser.folder / f"{TABLE.slug}-cost.svg").as_uri()}
    assert browser.run("return [...document.images].every(i => i.naturalWidth > 0)")


@pytest.mark.parametrize("file", [f"leaderboards/{TABLE.slug}.html", "leaderboards/hostile.html", "index.html"])
@pytest.mark.parametrize("width", [375, 1280])
def test_a_page_never_scrolls_sideways_but_a_wide_table_does(browser: Browser, file: str, width: int) -> None:
    browser.open(file, width)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    if file.startswith("leaderboards/multi") and width == 375:
        reached = "const s = document.querySelector('.scroll'); s.scrollLeft = 9999; return [s.scrollLeft, "
        scrolled, left = browser.run(reached + "document.querySelector('tbody th').getBoundingClientRect().left]")
        assert scrolled > 300
        assert 0 <= left < 30, "the labels stay in view"


def test_hostile_labels_are_texts_and_make_no_elements(browser: Browser) -> None:
    browser.open("leaderboards/hostile.html")
    assert browser.labels() == [one_line(row.label) for row in HOSTILE.rows]
    counts = "return ['script', 'img', 'style'].map(tag => document.body.querySelectorAll(tag).length)"
    assert browser.run(counts) == [1, 0, 0]
    browser.sort("Method")
    browser.sort("Method")
    assert browser.labels()[0] == one_line(HOSTILE.rows[0].label)


def test_the_system_decides_on_light_or_dark_until_the_reader_does(browser: Browser) -> None:
    def brightness() -> float:
        colour = browser.run("return getComputedStyle(document.documentElement).backgroundColor")
        numbers = [float(x) for x in colour.strip("rgba()").split(",")]
        return sum(numbers[:3]) / 3

    file = f"leaderboards/{TABLE.slug}.html"
    browser.open(file, scheme="light")
    assert brightness() > 240
    browser.open(file, scheme="dark")
    assert brightness() < 40
    browser.driver.find_element("css selector", ".theme").click()
    assert brightness() > 240
    browser.open(file, scheme="dark")
    assert brightness() > 240, "the choice is remembered"
    browser.run("localStorage.clear()")
