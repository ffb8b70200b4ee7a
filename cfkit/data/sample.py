"""Films with what is known about them, from any source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from torch import Tensor

from ..errors import UserError
from ..film import centred_square, resize


@dataclass(frozen=True)
class Entry:
    """What a data set's index says of a film.

    Attributes:
        name: Unique within its data set.
        patient: Splits are by patient, never by film.
        findings: By canonical name, present or absent; a finding that is not known is not there.
        view: "PA", "AP" or "".
        split: The publisher's own name for it, or "".
    """

    name: str
    patient: str
    findings: Mapping[str, bool]
    view: str
    split: str = field(default="", kw_only=True)


@dataclass(frozen=True)
class Sample(Entry):
    """One film.

    Attributes:
        image: (1, H, W) float32 in [0, 1].
        counterfactuals: By finding, the same patient with that finding the other way round, (1, H, W);
            only virtual patients have them.
        structures: The 14 structures, (14, H, W) bool, where known.
    """

    image: Tensor
    counterfactuals: Mapping[str, Tensor] = field(default_factory=dict)
    structures: Tensor | None = None


class Dataset(Protocol):
    """Any source of films."""

    name: str

    def entries(self) -> Sequence[Entry]:
        """The index: every film, without its pixels."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def __iter__(self) -> Iterator[Sample]: ...


def inside(folder: Path, file: str, index: str) -> Path:
    """A file of a data set's folder, as its index names it.

    Raises:
        UserError: The index points out of the folder.
    """
    path = folder / file
    if "\0" in file or not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{path}: lies outside {folder}; mend {index}")
    return path


def at_size(planes: Tensor, size: int) -> Tensor:
    """The centred square of planes (C, H, W) at `size` pixels."""
    if planes.ndim != 3 or min(planes.shape) < 1:
        raise UserError(f"a film of shape {tuple(planes.shape)}; (1, H, W) is wanted")
    rows, columns = centred_square(planes.shape[-2:])
    square = planes[:, rows, columns]
    return square if square.shape[-1] == size else resize(square.unsqueeze(0), (size, size))[0].clamp(0, 1)
