"""Draws docs/report.png and docs/app.png: the page of a run, and `cfkit app` after an edit, in headless Chromium.

cfkit bench quick -o run && python benchmarks/pictures.py run
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver

DOCS = Path(__file__).parents[1] / "docs"
PORT = 7961


@contextmanager
def chromium(url: str, width: int, height: int) -> Iterator[Any]:
    """A browser at an address."""
    options = webdriver.ChromeOptions()
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        driver.set_window_size(width, height)
        driver.get(url)
        yield driver
    finally:
        driver.quit()


def wait(condition: Callable[[], Any], seconds: float = 180) -> Any:
    """What a condition gives once it gives something."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise SystemExit("waited in vain")
        time.sleep(0.3)
    return found


def keep(driver: Any, name: str) -> None:
    """The window as a picture of 128 colours, which is a quarter of the size."""
    path = DOCS / name
    driver.save_screenshot(str(path))
    Image.open(path).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    print(path.relative_to(DOCS.parent))


def draw_report(run: Path) -> None:
    """The page of a run."""
    with chromium((run / "report.html").resolve().as_uri(), 1280, 1500) as driver:
        time.sleep(1)
        keep(driver, "report.png")


def answers(url: str) -> bool:
    """Whether somebody listens there."""
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except OSError:
        return False
    return True


def draw_app() -> None:
    """The page to work in, after an edit of the first sample."""
    url = f"http://127.0.0.1:{PORT}/"
    server = subprocess.Popen([sys.executable, "-m", "cfkit", "app", "--port", str(PORT), "--device", "cpu"])
    try:
        wait(lambda: answers(url))
        with chromium(url, 1280, 1300) as driver:
            wait(lambda: driver.find_elements("id", "go"))
            driver.find_element("css selector", "#sample input").click()
            wait(lambda: driver.find_elements("css selector", "[role=option][aria-label='effusion']"))[0].click()
            wait(lambda: driver.find_elements("css selector", "#slider img"))
            driver.find_element("id", "go").click()
            wait(lambda: "removed by ours" in driver.find_element("id", "status").text)
            time.sleep(2)
            keep(driver, "app.png")
    finally:
        server.terminate()
        server.wait(20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("run", type=Path, help="a run of `cfkit bench`")
    draw_report(parser.parse_args().run)
    draw_app()


if __name__ == "__main__":
    main()
