"""Headless Chromium: what the pages' tests and their pictures need."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import Any


def open_chromium(url: str, width: int, height: int) -> Any:
    """A browser at an address; what its console says is kept."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    driver.set_window_size(width, height)
    driver.get(url)
    return driver


def close_chromium(driver: Any) -> None:
    """Closes a browser, whose console is to hold no error."""
    errors = [line for line in driver.get_log("browser") if line["level"] == "SEVERE"]
    driver.quit()
    assert errors == []


def wait_for(condition: Callable[[], Any], seconds: float = 120) -> Any:
    """What a condition gives once it gives something."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.3)
    return found


def pick(driver: Any, name: str, value: str) -> None:
    """Picks an entry of a Gradio dropdown by the identity of its element."""
    driver.find_element("css selector", f"#{name} input").click()
    wait_for(lambda: driver.find_elements("css selector", f"[role=option][aria-label='{value}']"))[0].click()
