"""The page in headless Chromium: no error in the console, and everything that can be moved moves."""

import shutil
from importlib.util import find_spec

import pytest
from chromium import close_chromium, open_chromium

from cfkit.bench.command import start_bench
from cfkit.bench.suite import read_suite

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("selenium") is None or not shutil.which("chromedriver"), reason="needs selenium and chromedriver"
    ),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory, module_stubs):
    folder = tmp_path_factory.mktemp("page") / "run"
    given = {
        "methods": "towards,fails,towards:strength=0.1",
        "limit": 5,
        "classifier": "tests.bench.test_audit:brightness",
    }
    start_bench(read_suite("quick"), given, str(folder), "cpu")
    return folder / "report.html"


@pytest.fixture
def browser(page):
    driver = open_chromium(page.as_uri(), 1200, 900)
    yield driver
    close_chromium(driver)


def choose(browser, name, value):
    from selenium.webdriver.support.select import Select

    Select(browser.find_element("id", name)).select_by_value(value)


def texts(browser, selector):
    return [element.text for element in browser.find_elements("css selector", selector)]


def test_tables_are_sorted_and_filtered(browser):
    rows = "#scores tbody tr td:first-child"
    assert texts(browser, rows) == ["towards", "fails", "towards:strength=0.1"]
    choose(browser, "which", "all")
    browser.find_element("xpath", "//table[@id='scores']//th[contains(., 'l1')]/button").click()
    assert texts(browser, rows)[0] == "towards:strength=0.1", "least change first"
    assert browser.find_element("css selector", "th[aria-sort='ascending']")
    before = texts(browser, "#scores tbody td b")
    choose(browser, "task", "Pleural Effusion removal")
    assert texts(browser, "#scores tbody td b") != before


def test_the_plot_follows_the_metric(browser):
    dots = "#plot circle"
    assert len(browser.find_elements("css selector", dots)) == 3 * 4
    before = browser.find_element("css selector", dots).get_attribute("cx")
    choose(browser, "metric", "ssim")
    titles = [e.get_attribute("textContent") for e in browser.find_elements("css selector", "#plot title")]
    assert browser.find_element("css selector", dots).get_attribute("cx") != before and "films" in titles[0]


def test_films_are_filtered_and_ordered(browser):
    cards = "#gallery .film"
    assert len(browser.find_elements("css selector", cards)) == 24 and "24 of 45" in texts(browser, "#count")[0]
    browser.find_element("id", "more").click()
    assert len(browser.find_elements("css selector", cards)) == 45
    choose(browser, "g-outcome", "failed")
    failed = browser.find_elements("css selector", cards)
    assert failed and all("too bright" in card.text for card in failed)
    choose(browser, "g-outcome", "")
    choose(browser, "g-method", "towards")
    choose(browser, "g-task", "Cardiomegaly removal")
    assert "5 of 5" in texts(browser, "#count")[0]
    orders = {}
    for order in ("best", "worst"):
        choose(browser, "g-order", order)
        orders[order] = texts(browser, "#gallery figcaption div:last-child")
    assert orders["best"][0] == orders["worst"][-1] != orders["best"][-1]


def test_the_slider_moves_by_mouse_and_keyboard_and_the_overlays_show(browser):
    from selenium.webdriver import ActionChains, Keys

    view = browser.find_element("css selector", "#gallery .view")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", view)
    slider = view.find_element("css selector", "input")
    width = view.size["width"]
    ActionChains(browser).move_to_element(slider).click_and_hold().move_by_offset(
        int(width * 0.3), 0
    ).release().perform()
    moved = int(slider.get_attribute("value"))
    assert 65 < moved < 95
    slider.send_keys(Keys.ARROW_LEFT)
    assert int(slider.get_attribute("value")) == moved - 1
    at = "return getComputedStyle(arguments[0]).getPropertyValue('--at')"
    assert browser.execute_script(at, view) == f"{moved - 1}%"
    for key, name in (("d", "difference"), ("b", "mask")):
        slider.send_keys(key)
        assert view.get_attribute("data-view") == name
        count = "const c = arguments[0].querySelector('canvas'); return c.getContext('2d')"
        count += ".getImageData(0, 0, c.width, c.height).data.filter((v, k) => k % 4 === 2 && v > 40).length"
        browser.implicitly_wait(1)
        assert wait_for(lambda: browser.execute_script(count, view)) > 100  # noqa: B023
        slider.send_keys(key)
        assert view.get_attribute("data-view") == "slide"


def wait_for(value, seconds=5.0):
    import time

    end = time.monotonic() + seconds
    while not (found := value()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def test_light_and_dark(browser):
    def back():
        return browser.execute_script("return getComputedStyle(document.body).backgroundColor")

    before = back()
    browser.find_element("id", "theme").click()
    assert back() != before
    browser.find_element("id", "theme").click()
    assert back() == before


def test_the_audited_classifier_has_its_table(browser):
    assert texts(browser, "#audit th")[2:] == ["Cardiomegaly", "Fracture"]
    assert len(browser.find_elements("css selector", "#audit td.target")) == 3, "cardiomegaly alone, by each method"


def test_nothing_is_wider_than_a_phone(browser):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    )
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 400
    card = browser.find_element("css selector", "#gallery .film")
    assert card.size["width"] >= 150
