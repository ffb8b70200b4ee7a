"""Data sets: the virtual patients that ship inside, and what a name or a folder stands for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .layouts import open_films
from .sample import Dataset, Entry, Sample
from .virtual.patient import FINDINGS
from .virtual.read import VirtualFolder, is_virtual


class VirtualSplit:
    """The virtual patients that ship inside: 64, each without a finding and with each of the three."""

    name = "virtual"

    def __init__(self) -> None:
        with (files("cfkit.data.virtual") / "test.npz").open("rb") as stream:
            stored = np.load(stream, allow_pickle=False)
            healthy, change = stored["healthy"], stored["change"]  # (P, H, W), (P, 3, H, W) uint8
            masks, flips = stored["structures"], stored["flips"]  # packed bits, the others as differences
            self.patients, self.views = stored["patients"], stored["views"]
        self.films = np.concatenate([healthy[:, None], healthy[:, None] + change], axis=1)  # wraps around
        packed = np.concatenate([masks[:, None], masks[:, None] ^ flips], axis=1)
        self._packed = packed

    def __len__(self) -> int:
        return 4 * len(self.films)

    def entries(self) -> list[Entry]:
        return [self._entry(k) for k in range(len(self))]

    def _entry(self, index: int) -> Entry:
        patient, variant = divmod(index, 4)
        present = ("", *FINDINGS)[variant]
        return Entry(
            name=f"{self.patients[patient]:06d}_{present.lower().replace(' ', '-') or 'no-finding'}",
            patient=f"virtual-{self.patients[patient]}",
            findings={finding: finding == present for finding in FINDINGS},
            view=str(self.views[patient]),
        )

    def __getitem__(self, index: int) -> Sample:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        entry = self._entry(index % len(self))
        patient, variant = divmod(index % len(self), 4)
        present = ("", *FINDINGS)[variant]
        others = {present: 0} if present else {finding: k for k, finding in enumerate(FINDINGS, 1)}
        return Sample(
            **vars(entry),
            image=self._film(patient, variant),
            counterfactuals={finding: self._film(patient, k) for finding, k in others.items()},
            structures=torch.from_numpy(np.unpackbits(self._packed[patient, variant], axis=-1).astype(bool)),
        )

    def __iter__(self) -> Iterator[Sample]:
        return (self[k] for k in range(len(self)))

    def _film(self, patient: int, variant: int) -> Tensor:
        return torch.from_numpy(self.films[patient, variant].astype(np.float32) / 255.0).unsqueeze(0)


@lru_cache(maxsize=1)
def virtual_split() -> VirtualSplit:
    """The shipped split, read once."""
    return VirtualSplit()


def open_dataset(name_or_path: str, *, split: str = "", uncertain: str = "ignore") -> Dataset:
    """A data set by name ("virtual", the shipped split) or folder, in one of the layouts of `layouts.LAYOUTS`.

    Args:
        name_or_path: "virtual", or a folder.
        split: One of the publisher's; all films where empty.
        uncertain: What a label that says "uncertain" is taken for: "ignore" (not known), "present" or "absent".

    Raises:
        UserError: There is no such name, folder or split, or the folder is in no layout that is known.
    """
    if name_or_path == "virtual":
        if split:
            raise UserError(f"--split {split}: the virtual films that ship inside are one split")
        return virtual_split()
    folder = Path(name_or_path)
    if not folder.is_dir():
        raise UserError(f"--data {name_or_path}: no such folder; give one, or 'virtual' for the films that ship inside")
    if is_virtual(folder):
        if split:
            raise UserError(f"--split {split}: a folder of `cfkit data virtual` names no splits")
        return VirtualFolder(folder)
    films = open_films(folder, uncertain=uncertain)
    return films.of_split(split) if split else films
