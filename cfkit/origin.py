"""Where figures come from: the commit and the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path


def origin(*details: str) -> dict[str, str]:
    """The commit of the checkout that cfkit lies in, empty where it lies in none, and the machine.

    Args:
        details: What else is to be said of the machine.
    """
    here = Path(__file__)
    tracked = ["git", "ls-files", "--error-unmatch", here.name]  # somebody else's repository may lie around
    commit = "" if _run(tracked, here.parent) is None else _run(["git", "rev-parse", "--short", "HEAD"], here.parent)
    return {"commit": commit or "", "machine": ", ".join([platform.machine(), f"{os.cpu_count()} cores", *details])}


def _run(command: list[str], folder: Path) -> str | None:
    """What a command prints; None where it fails or is not there."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
