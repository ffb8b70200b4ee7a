"""A fresh virtual environment that sees what this one has installed, torch above all."""

import os
import subprocess
import sys
import venv
from pathlib import Path


def make_environment(folder: Path, *more: Path) -> Path:
    """Python of a fresh environment: its own packages come first, this one's and those in `more` after them."""
    venv.create(folder, with_pip=True, symlinks=True)
    (site,) = (folder / "lib").glob("python*/site-packages")
    shared = [p for p in sys.path if p.endswith("site-packages")]
    (site / "shared.pth").write_text("\n".join([*shared, *map(str, more)]) + "\n")
    return folder / "bin" / "python"


def call(python: Path, *args: object, check: bool = True, cwd: Path | None = None, **env: str):
    """Runs it; where it is checked, what it says stands in the failure."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [python, *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**inherited, "COLUMNS": "200", **env},
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done
