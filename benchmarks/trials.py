"""The commands of benchmarks/reliability.py, and what must hold after each of them."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from PIL import Image

FILMS = ("normal", "effusion", "cardiomegaly", "atelectasis")
QUICK = ["--epochs", "1", "--num-inference-steps", "2", "--skip", "0", "--shrink", "0", "--device", "cpu"]
SUITE = """
data = "virtual"
tasks = ["Pleural Effusion removal", "Cardiomegaly synthesis"]
limit = 2
batch_size = 1
methods = [{ name = "ours", options = { epochs = 1, num_inference_steps = 2, skip = 0.0 } }]
"""
CASES = 4


def edit_command(out: Path) -> list[str]:
    """An edit of four films, one at a time."""
    films = [f"sample:{name}" for name in FILMS]
    given = ["--add", "Effusion", "--batch-size", "1", "-o", str(out)]
    return [sys.executable, "-m", "cfkit", "edit", *films, *given, *QUICK]


def bench_command(out: Path) -> list[str]:
    """A run of four cases, one at a time."""
    suite = out.parent / "suite.toml"
    suite.write_text(SUITE)
    return [sys.executable, "-m", "cfkit", "bench", str(suite), "--device", "cpu", "-o", str(out)]


def resume_command(out: Path) -> list[str]:
    """The same run, again: resumed where there is one, begun where it was killed before."""
    if (out / "plan.json").exists():
        return [sys.executable, "-m", "cfkit", "bench", "--resume", str(out), "--device", "cpu"]
    return bench_command(out)


def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs to the end."""
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def said_badly(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What is wrong with what a command said."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("cfkit:")]
    wrong = ["a traceback"] if "Traceback" in done.stderr else []
    if done.returncode not in (0, 2):
        wrong.append(f"exit code {done.returncode}: {done.stderr[-200:]}")
    if done.returncode == 2 and not lines:
        wrong.append("no line that says what is wrong")
    return wrong


def half_written(folder: Path) -> list[str]:
    """Files with a final name that are not whole."""
    wrong = []
    for path in folder.rglob("*"):
        if path.name.startswith("."):
            continue
        try:
            if path.suffix in (".png", ".gif"):
                with Image.open(path) as image:
                    image.load()
            elif path.suffix == ".json":
                record = json.loads(path.read_text())
                if "output" in record and not Path(record["output"]).is_file():
                    wrong.append(f"{path.name} names a film that is not there")
        except (OSError, ValueError) as error:
            wrong.append(f"{path.name}: {error}")
    return wrong


def complete_edit(out: Path) -> list[str]:
    """What is missing after the command was given again."""
    done = run(edit_command(out))
    missing = [f"{name}.json is missing" for name in FILMS if not (out / f"{name}.json").is_file()]
    return [*said_badly(done), *missing, *half_written(out), *([] if done.returncode == 0 else [done.stderr[-200:]])]


def results_of(out: Path) -> dict[str, Any]:
    """A run's results without what time decides."""
    results = json.loads((out / "results.json").read_text())
    return {key: value for key, value in results.items() if key not in ("timings", "finished")}


def complete_bench(out: Path, wanted: dict[str, Any]) -> list[str]:
    """What is wrong after the run was resumed."""
    done = run(resume_command(out))
    if done.returncode:
        return [*said_badly(done), done.stderr[-200:]]
    with closing(sqlite3.connect(out / "cases.sqlite")) as db:
        (count,) = db.execute("SELECT COUNT(*) FROM cases").fetchone()
    wrong = [] if count == CASES else [f"{count} cases instead of {CASES}"]
    if results_of(out) != wanted:
        wrong.append("other results than an undisturbed run's")
    return [*wrong, *half_written(out)]


def timed(command: list[str]) -> float:
    """Seconds of a whole run."""
    begun = time.monotonic()
    run(command)
    return time.monotonic() - begun
