"""Films with what is known about them, from any source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from .virtual.patient import FINDINGS


@dataclass(frozen=True)
class Sample:
    """One film.

    Attributes:
        name: Unique within its data set.
        patient: Splits are by patient, never by film.
        image: (1, H, W) float32 in [0, 1].
        findings: By canonical name, present or absent; a finding that is not known is not there.
        view: "PA", "AP" or "".
        counterfactuals: By finding, the same patient with that finding the other way round, (1, H, W);
            only virtual patients have them.
        structures: The 14 structures, (14, H, W) bool, where known.
    """

    name: str
    patient: str
    image: Tensor
    findings: Mapping[str, bool]
    view: str = ""
    counterfactuals: Mapping[str, Tensor] = field(default_factory=dict)
    structures: Tensor | None = None


class Dataset(Protocol):
    """Any source of films."""

    name: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def __iter__(self) -> Iterator[Sample]: ...


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

    def __getitem__(self, index: int) -> Sample:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        patient, variant = divmod(index % len(self), 4)
        present = ("", *FINDINGS)[variant]
        others = {present: 0} if present else {finding: k for k, finding in enumerate(FINDINGS, 1)}
        return Sample(
            name=f"{self.patients[patient]:06d}_{present.lower().replace(' ', '-') or 'no-finding'}",
            patient=f"virtual-{self.patients[patient]}",
            image=self._film(patient, variant),
            findings={finding: finding == present for finding in FINDINGS},
            view=str(self.views[patient]),
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
