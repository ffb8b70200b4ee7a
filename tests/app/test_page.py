"""The page to work in, in headless Chromium: upload, edit, slider, a bad file, two users at once, the token."""

import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing
from importlib.util import find_spec

import pytest
from chromium import close_chromium, open_chromium, pick, wait_for

from cfkit.images import sample_path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("selenium") is None or find_spec("gradio") is None or not shutil.which("chromedriver"),
        reason="needs gradio, selenium and chromedriver",
    ),
]


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module", params=[()], ids=["loopback"])
def served(request, tmp_path_factory):
    yield from serve(tmp_path_factory.mktemp("app") / "log")


def serve(log, *options):
    port = free_port()
    with log.open("w") as stream:
        command = [sys.executable, "-u", "-m", "cfkit", "app", "--port", str(port), "--device", "cpu", *options]
        process = subprocess.Popen(command, stdout=stream, stderr=stream)
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5)
                break
            except urllib.error.HTTPError:
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/", log
    finally:
        process.terminate()
        process.wait(20)


def open_browser(url):
    driver = open_chromium(url, 1280, 1100)
    wait_for(lambda: driver.find_elements("id", "go"))
    return driver


@pytest.fixture
def browser(served):
    driver = open_browser(served[0])
    yield driver
    close_chromium(driver)


def upload(driver, path):
    driver.find_element("css selector", "#film input[type=file]").send_keys(str(path))


def said(driver):
    return driver.find_element("id", "status").text


def test_a_film_is_uploaded_edited_and_compared(browser, tmp_path):
    upload(browser, sample_path("effusion"))
    wait_for(lambda: browser.find_elements("css selector", "#slider img"))
    browser.find_element("id", "go").click()
    wait_for(lambda: "Pleural Effusion removed by ours" in said(browser))
    pictures = wait_for(lambda: len(found := browser.find_elements("css selector", "#slider img")) > 1 and found)
    assert len({picture.get_attribute("src") for picture in pictures}) == 2
    table = wait_for(lambda: (t := browser.find_element("id", "probabilities").text).count("Pleural Effusion") and t)
    before, after = map(float, re.search(r"classifier\s+Pleural Effusion\s+([\d.]+)\s+([\d.]+)", table).groups())
    assert before > 0.5 > after
    downloads = browser.find_elements("css selector", "a[download]")
    assert {"counterfactual.png", "counterfactual.panel.png", "counterfactual.json"} <= {
        link.get_attribute("download") for link in downloads
    } or len(browser.find_elements("xpath", "//button[text()='Film' or text()='Panel' or text()='Record']")) == 3


def test_the_slider_moves(browser):
    from selenium.webdriver import ActionChains

    pick(browser, "sample", "effusion")
    wait_for(lambda: browser.find_elements("css selector", "#slider img"))
    handle = wait_for(lambda: browser.find_elements("css selector", "#slider [role=slider], #slider .outer"))[0]
    before = handle.rect["x"]
    ActionChains(browser).click_and_hold(handle).move_by_offset(-120, 0).release().perform()
    assert handle.rect["x"] < before - 60


def test_a_bad_file_is_one_line_and_the_page_goes_on(browser, tmp_path):
    bad = tmp_path / "letter.png"
    bad.write_text("no picture")
    upload(browser, bad)
    toast = wait_for(
        lambda: [t for t in browser.find_elements("css selector", ".toast-body") if "not an image" in t.text]
    )
    assert "letter.png" in toast[0].text and "Traceback" not in toast[0].text


def test_two_users_at_once_get_their_own(served):
    drivers = [open_browser(served[0]) for _ in range(2)]
    try:
        for driver, sample in zip(drivers, ("effusion", "effusion-real"), strict=True):
            pick(driver, "sample", sample)
            wait_for(lambda driver=driver: driver.find_elements("css selector", "#slider img"))
        for driver in drivers:
            driver.find_element("id", "go").click()
        for driver in drivers:
            wait_for(lambda driver=driver: "removed by ours" in said(driver), 180)
        sources = [driver.find_elements("css selector", "#slider img")[-1].get_attribute("src") for driver in drivers]
        assert sources[0] != sources[1]
    finally:
        for driver in drivers:
            driver.quit()


def test_opened_wider_it_asks_for_a_token(tmp_path):
    for url, log in serve(tmp_path / "log", "--host", "0.0.0.0"):
        password = re.search(r"password (\S+)", log.read_text())[1]
        assert len(password) >= 20
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{url}config")
        assert refused.value.code == 401
        body = f"username=cfkit&password={password}".encode()
        assert urllib.request.urlopen(urllib.request.Request(f"{url}login", body)).status == 200
