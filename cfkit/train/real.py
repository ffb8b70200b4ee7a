"""Real films of the NIH folder that the demo bundle is trained on beside virtual patients."""

from __future__ import annotations

import csv
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import UserError

HELD_OUT = (2, 5, 17, 22, 50, 6585)  # patients whose films at 512 px no part is trained on
LABELS = ("Atelectasis", "Cardiomegaly", "Effusion")  # as NIH writes the three findings


@dataclass(frozen=True)
class RealFilms:
    """Films of one split.

    Attributes:
        films: (N, H, W) uint8.
        findings: (N, 3) float32, 0 or 1.
        patients: (N,) int64.
        names: File names.
    """

    films: np.ndarray
    findings: np.ndarray
    patients: np.ndarray
    names: tuple[str, ...]


def split_of(patient: int, sharp: Collection[int]) -> str:
    """ "train", "judge" or "test": by patient, never by film.

    Args:
        patient: Their number.
        sharp: Patients with films at 512 px. These films are few, so that they are all for training, but for those
            of `HELD_OUT`, and their patients' films at 64 px with them.
    """
    if patient in HELD_OUT:
        return "test"
    if patient in sharp:
        return "train"
    return ("train", "train", "train", "judge", "judge", "test")[(patient * 2654435761) % 2**32 % 6]


def read_real(folder: Path, split: str, *, small: bool, size: int = 256) -> RealFilms:
    """Reads the films of a split from a folder with `labels.csv`, `images/` and `images64/`.

    Args:
        folder: The NIH folder.
        split: "train", "judge" or "test"; see `split_of`.
        small: The films at 64 px rather than those at 512 px.
        size: Side to which the films at 512 px are reduced; those at 64 px keep theirs.

    Raises:
        UserError: There is no labels.csv, or no film for the split.
    """
    table = folder / "labels.csv"
    if not table.is_file():
        raise UserError(f"{table}: not found; give the folder that holds labels.csv and images/")
    with table.open(newline="") as stream:
        told = [(row["file"], int(row["patient"]), set(row["findings"].split("|"))) for row in csv.DictReader(stream)]
    sharp = {patient for file, patient, _ in told if not file.startswith("images64/")}
    rows = [
        (folder / file, patient, findings)
        for file, patient, findings in told
        if file.startswith("images64/") == small and split_of(patient, sharp) == split
    ]
    if not rows:
        raise UserError(f"{table}: no film at {64 if small else 512} px for the split {split}; give a larger folder")
    films = []
    for path, _, _ in rows:
        image = Image.open(path).convert("L")
        films.append(np.asarray(image if small else image.resize((size, size), Image.Resampling.LANCZOS)))
    return RealFilms(
        films=np.stack(films),
        findings=np.array([[label in found for label in LABELS] for _, _, found in rows], np.float32),
        patients=np.array([patient for _, patient, _ in rows]),
        names=tuple(path.name for path, _, _ in rows),
    )
