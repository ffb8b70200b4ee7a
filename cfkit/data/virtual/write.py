"""Virtual patients as files: films, structures, difference masks and a table."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...anatomy import STRUCTURES
from ...files import write_beside
from .render import Films, render
from .volume import Anatomy

COLUMNS = ("file", "patient", "view", "finding", "structures", "difference")


def write_patients(
    anatomy: Anatomy,
    out: Path,
    *,
    patients: int,
    seed: int,
    size: int = 256,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Renders patients `seed`, `seed + 1`, ... into a folder; those that are there are not made again.

    Each patient gives four films (8-bit PNG), their structures (16-bit PNG, bit k is structure k of
    `STRUCTURES`), the difference masks of the three pairs, and a JSON file of all that was drawn.
    `films.csv` lists every film.

    Raises:
        UserError: The folder cannot be written.
    """
    for k in range(patients):
        done = out / "patients" / f"{seed + k:06d}.json"
        if not done.exists():
            _write_patient(render(anatomy, seed + k, size=size), out, done)
        if progress:
            progress(k + 1, patients)
    rows = [row for path in sorted((out / "patients").glob("*.json")) for row in json.loads(path.read_text())["films"]]

    def write_table(part: Path) -> None:
        with part.open("w", newline="") as stream:
            table = csv.DictWriter(stream, COLUMNS)
            table.writeheader()
            table.writerows(rows)

    write_beside(out / "films.csv", write_table)


def _write_patient(films: Films, out: Path, done: Path) -> None:
    rows: list[dict[str, Any]] = []
    for finding, film in films.films.items():
        stem = f"{films.patient.seed:06d}_{finding.lower().replace(' ', '-') or 'no-finding'}"
        row: dict[str, Any] = {
            "file": f"films/{stem}.png",
            "patient": films.patient.seed,
            "view": films.patient.exposure.view,
            "finding": finding or "No Finding",
            "structures": f"structures/{stem}.png",
            "difference": f"differences/{stem}.png" if finding else "",
        }
        bits = sum(mask.astype(np.uint16) << k for k, mask in enumerate(films.structures[finding]))
        _save(out / row["file"], np.round(film * 255).astype(np.uint8))
        _save(out / row["structures"], np.asarray(bits, np.uint16))
        if finding:
            _save(out / row["difference"], films.difference(finding).astype(np.uint8) * 255)
        rows.append(row)
    record = {"films": rows, "structures": STRUCTURES, **films.patient.metadata()}
    write_beside(done, lambda part: part.write_text(json.dumps(record, indent=1)))


def _save(path: Path, pixels: np.ndarray) -> None:
    write_beside(path, lambda part: Image.fromarray(pixels).save(part, format="PNG"))
