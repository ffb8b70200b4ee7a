"""Where figures come from: the commit and the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path


def origin(*details: str) -> dict[str, str]:
    """The commit, empty where there is none, and the machine with what else is to be said of it."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(
        command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    ).stdout.strip()
    return {"commit": commit, "machine": ", ".join([platform.machine(), f"{os.cpu_count()} cores", *details])}
