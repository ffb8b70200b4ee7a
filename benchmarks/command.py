"""What `cfkit edit` costs a user, start-up and all: one film, and eight films in one call against eight calls.

python benchmarks/command.py -o benchmarks/results/command.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from cfkit.bench.store import png_bytes
from cfkit.data.dataset import open_dataset
from cfkit.origin import origin

FILMS = 8


def films_into(folder: Path) -> list[Path]:
    """Eight films of 256 px with an effusion."""
    dataset = open_dataset("virtual")
    ill = [k for k, entry in enumerate(dataset.entries()) if entry.findings.get("Pleural Effusion")]
    paths = []
    for k in ill[:FILMS]:
        paths.append(folder / f"{k}.png")
        paths[-1].write_bytes(png_bytes(dataset[k].image))
    return paths


def call(films: list[Path], out: Path, device: str) -> tuple[float, float]:
    """Seconds of the whole command, and of the edits alone as the records tell them."""
    command = [sys.executable, "-m", "cfkit", "edit", *map(str, films), "--remove", "Pleural Effusion"]
    begun = time.perf_counter()
    subprocess.run([*command, "--device", device, "-o", str(out)], check=True, capture_output=True)
    seconds = time.perf_counter() - begun
    return seconds, sum(json.loads((out / f"{film.stem}.json").read_text())["seconds"] for film in films)


def main() -> None:
    """Measures and prints; the median of three calls of one film."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-o", "--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        films = films_into(Path(name))
        ones = [call([film], Path(name) / "one", given.device) for film in films[:3]]
        eight = call(films, Path(name) / "eight", given.device)
    whole, edit = (statistics.median(values) for values in zip(*ones, strict=True))
    told: dict[str, Any] = {
        **origin(f"torch {torch.__version__}", given.device),
        "one film, seconds of the command": round(whole, 2),
        "one film, seconds of the edit": round(edit, 2),
        "eight films in one call, seconds of the command": round(eight[0], 2),
        "eight films in one call, seconds of the edits": round(eight[1], 2),
        "eight films in one call, share of eight calls": round(eight[0] / (FILMS * whole), 3),
    }
    text = json.dumps(told, indent=1) + "\n"
    print(text)
    if given.out:
        given.out.write_text(text)


if __name__ == "__main__":
    main()
