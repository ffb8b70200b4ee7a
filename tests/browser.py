"""Headless Chromium."""

import shutil


def open_chromium(url, width, height):
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


def close_chromium(driver):
    """Closes a browser, whose console is to hold no error."""
    errors = [line for line in driver.get_log("browser") if line["level"] == "SEVERE"]
    assert errors == []
    driver.quit()
