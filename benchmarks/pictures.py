"""Draws docs/report.png and docs/app.png: the page of a run, and `cfkit app` after an edit, in headless Chromium.

cfkit bench paper --limit 4 -o run && python benchmarks/pictures.py run
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from chromium import close_chromium, open_chromium, pick, wait_for
from PIL import Image

DOCS = Path(__file__).parents[1] / "docs"
PORT = 7961


def keep(driver: Any, name: str) -> None:
    """The window as a picture of 128 colours, which is a quarter of the size."""
    path = DOCS / name
    driver.save_screenshot(str(path))
    Image.open(path).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    close_chromium(driver)
    print(path.relative_to(DOCS.parent))


def draw_report(run: Path) -> None:
    """The page of a run."""
    driver = open_chromium((run / "report.html").resolve().as_uri(), 1280, 1500)
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
    """The page to work in, after an edit of a sample."""
    url = f"http://127.0.0.1:{PORT}/"
    server = subprocess.Popen([sys.executable, "-m", "cfkit", "app", "--port", str(PORT), "--device", "cpu"])
    try:
        wait_for(lambda: answers(url))
        driver = open_chromium(url, 1280, 1300)
        wait_for(lambda: driver.find_elements("id", "go"))
        pick(driver, "sample", "effusion")
        wait_for(lambda: driver.find_elements("css selector", "#slider img"))
        driver.find_element("id", "go").click()
        wait_for(lambda: "removed by ours" in driver.find_element("id", "status").text, 300)
        time.sleep(2)
        keep(driver, "app.png")
    finally:
        server.terminate()
        server.wait(20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run of `cfkit bench`")
    draw_report(parser.parse_args().run)
    draw_app()


if __name__ == "__main__":
    main()
