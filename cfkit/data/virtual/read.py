"""Virtual patients from the folder that `cfkit data virtual` wrote."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...errors import UserError
from ..sample import Entry, Sample, inside
from .patient import FINDINGS
from .write import COLUMNS

MOST_HEADER = 1000  # characters


def is_virtual(folder: Path) -> bool:
    """Whether `cfkit data virtual` wrote a folder: its table names structures."""
    table = folder / "films.csv"
    if not table.is_file():
        return False
    with table.open(encoding="utf-8", errors="replace") as stream:
        return "structures" in stream.readline(MOST_HEADER)


class VirtualFolder:
    """Films with exact counterfactuals and structures, as `write_patients` leaves them."""

    def __init__(self, folder: Path):
        self.folder, self.name = folder, folder.resolve().name

    @cached_property
    def rows(self) -> list[dict[str, str]]:
        """The lines of `films.csv`.

        Raises:
            UserError: It cannot be read, or lacks a column.
        """
        table = self.folder / "films.csv"
        try:
            with table.open(newline="") as stream:
                rows = list(csv.DictReader(stream))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{table}: cannot be read ({error}); make it with `cfkit data virtual`") from None
        if not rows or set(COLUMNS) - set(rows[0]):
            raise UserError(f"{table}: the columns {', '.join(COLUMNS)} are wanted; make it with `cfkit data virtual`")
        return rows

    @cached_property
    def _by_patient(self) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for row in self.rows:
            found.setdefault(row["patient"], {})[row["finding"]] = row["file"]
        return found

    def __len__(self) -> int:
        return len(self.rows)

    def entries(self) -> list[Entry]:
        return [self._entry(row) for row in self.rows]

    def _entry(self, row: dict[str, str]) -> Entry:
        return Entry(
            name=Path(row["file"]).stem,
            patient=f"virtual-{row['patient']}",
            findings={finding: finding == row["finding"] for finding in FINDINGS},
            view=row["view"],
        )

    def __getitem__(self, index: int) -> Sample:
        row = self.rows[index]
        present = "" if row["finding"] == "No Finding" else row["finding"]
        siblings = self._by_patient[row["patient"]]
        others = {present: "No Finding"} if present else {finding: finding for finding in FINDINGS}
        bits = torch.from_numpy(self._pixels(row["structures"]).astype(np.int32))
        return Sample(
            **vars(self._entry(row)),
            image=self._film(row["file"]),
            counterfactuals={finding: self._film(siblings[k]) for finding, k in others.items() if k in siblings},
            structures=torch.stack([(bits >> k & 1).bool() for k in range(14)]),
        )

    def __iter__(self) -> Iterator[Sample]:
        return (self[k] for k in range(len(self)))

    def _film(self, file: str) -> Tensor:
        return torch.from_numpy(self._pixels(file).astype(np.float32) / 255.0).unsqueeze(0)

    def _pixels(self, file: str) -> np.ndarray:
        path = inside(self.folder, file, "films.csv")
        try:
            with Image.open(path) as image:
                return np.asarray(image)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error}); make it again with `cfkit data virtual`") from None
