"""Films in a folder, with what an index says of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import UserError
from ..images import read_film
from .sample import Entry, Sample, inside


@dataclass(frozen=True)
class Record(Entry):
    """An entry and its file, relative to the data set's folder."""

    file: str


class FilmFolder:
    """Films of a data set that is laid out in a known way.

    Attributes:
        folder: Where it lies.
        layout: Its name, such as "CheXpert".
        records: Frontal films, in the order of the index.
        left_out: How many films of the index are no frontal ones.
    """

    def __init__(self, folder: Path, layout: str, records: Sequence[Record], left_out: int = 0):
        self.folder, self.layout, self.records, self.left_out = folder, layout, tuple(records), left_out
        self.name = folder.resolve().name

    def of_split(self, split: str) -> FilmFolder:
        """The films of one split.

        Raises:
            UserError: There is none of that name.
        """
        known = sorted({record.split for record in self.records if record.split})
        if split not in known:
            there = f"the splits are {', '.join(known)}" if known else "the data set names no splits"
            raise UserError(f"--split {split}: {there}")
        kept = [record for record in self.records if record.split == split]
        return FilmFolder(self.folder, self.layout, kept, self.left_out)

    def __len__(self) -> int:
        return len(self.records)

    def entries(self) -> list[Entry]:
        return [Entry(r.name, r.patient, r.findings, r.view, split=r.split) for r in self.records]

    def __getitem__(self, index: int) -> Sample:
        record = self.records[index]
        film = read_film(self.path(record), any_shape=True)
        return Sample(
            record.name,
            record.patient,
            record.findings,
            record.view,
            split=record.split,
            image=torch.from_numpy(film.shown).unsqueeze(0),
        )

    def __iter__(self) -> Iterator[Sample]:
        return (self[k] for k in range(len(self)))

    def path(self, record: Record) -> Path:
        """Where a film lies.

        Raises:
            UserError: Its index points out of the folder.
        """
        return inside(self.folder, record.file, "the index")


@dataclass(frozen=True)
class Faults:
    """What is wrong with a data set.

    Attributes:
        missing: Films of the index whose files are not there.
        outside: Films whose index points out of the folder.
        shared: Patients with films in more than one split.
        twice: Names that stand for more than one film.
    """

    missing: tuple[str, ...]
    outside: tuple[str, ...]
    shared: tuple[str, ...]
    twice: tuple[str, ...]


def find_faults(data: FilmFolder) -> Faults:
    """Looks for every file, for patients in several splits and for names that stand twice."""
    missing, outside, names, twice = [], [], set(), []
    splits: dict[str, set[str]] = {}
    for record in data.records:
        splits.setdefault(record.patient, set()).add(record.split)
        if record.name in names:
            twice.append(record.name)
        names.add(record.name)
        try:
            if not data.path(record).is_file():
                missing.append(record.file)
        except UserError:
            outside.append(record.file)
    shared = sorted(patient for patient, found in splits.items() if len(found) > 1)
    return Faults(tuple(missing), tuple(outside), tuple(shared), tuple(twice))
