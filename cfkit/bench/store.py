"""Where a run's rows are kept: SQLite in WAL mode, images as files beside it.

A row is written once, when its case ends, with all rows of its batch; the images that it names are
there before it is. Whatever a kill leaves behind is either whole or not named by any row.
"""

from __future__ import annotations

import fcntl
import json
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ..errors import UserError
from ..files import write_beside
from ..findings import Intervention
from .plan import Case

SCHEMA = """
CREATE TABLE IF NOT EXISTS plan (
    key TEXT NOT NULL, method TEXT NOT NULL, kind TEXT NOT NULL, film TEXT NOT NULL, finding TEXT NOT NULL,
    present INTEGER NOT NULL, seed INTEGER NOT NULL, source TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS films (
    name TEXT PRIMARY KEY, patient TEXT NOT NULL, findings TEXT NOT NULL, arrays BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS cases (
    key TEXT PRIMARY KEY, method TEXT NOT NULL, kind TEXT NOT NULL, film TEXT NOT NULL, finding TEXT NOT NULL,
    present INTEGER NOT NULL, seed INTEGER NOT NULL, error TEXT NOT NULL, seconds REAL NOT NULL,
    peak_mb INTEGER NOT NULL, record TEXT NOT NULL, arrays BLOB NOT NULL
);
"""


@dataclass(frozen=True)
class FilmRow:
    """A film of the run: who it is of, what is known of it and what models say of it."""

    name: str
    patient: str
    findings: dict[str, bool]
    arrays: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class CaseRow:
    """A finished case.

    Attributes:
        key: Hash of all that decides the result.
        method: Its label in the run.
        kind: "edit", "null" (asks for what is already so) or "reverse" (takes an edit back).
        film: The factual's name.
        error: One line where it failed, else empty.
        seconds: A film's share of its batch.
        record: Plain data that the method wants kept.
        arrays: The columns that need a model.
    """

    key: str
    method: str
    kind: str
    film: str
    finding: str
    present: bool
    seed: int
    error: str = ""
    seconds: float = 0.0
    peak_mb: int = 0
    record: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, Tensor] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """Such as "Cardiomegaly removal"."""
        return f"{self.finding} {Intervention(self.finding, self.present).task}"


def png_bytes(film: Tensor) -> bytes:
    """A film (1, H, W) in [0, 1] as a 16-bit PNG."""
    return _png((film[0].clamp(0, 1) * 65535).round().to(torch.int32).numpy())


def masks_png(masks: Tensor) -> bytes:
    """Masks (C, H, W) bool, at most 16, as a 16-bit PNG: bit k is mask k."""
    return _png((masks.int() << torch.arange(len(masks)).view(-1, 1, 1)).sum(0).numpy())


def _png(levels: np.ndarray) -> bytes:
    stream = BytesIO()
    Image.fromarray(levels.astype(np.uint16)).save(stream, format="PNG")
    return stream.getvalue()


def seal(values: Sequence[Any], arrays: dict[str, Tensor]) -> bytes:
    """A row's arrays with a checksum of the whole row, so that a damaged one is not taken for a result.

    Args:
        values: The row's other columns, as they are stored.
        arrays: Its tensors.
    """
    packed: bytes = save(arrays)
    return packed + zlib.crc32(json.dumps(list(values)).encode() + packed).to_bytes(4, "big")


def unseal(values: Sequence[Any], sealed: bytes) -> dict[str, Tensor]:
    """The arrays of a row.

    Raises:
        ValueError: The row is not as it was written.
    """
    packed = sealed[:-4]
    if zlib.crc32(json.dumps(list(values)).encode() + packed).to_bytes(4, "big") != sealed[-4:]:
        raise ValueError("a damaged row")
    arrays: dict[str, Tensor] = load(packed)
    return arrays


class Store:
    """A run's folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "images").mkdir(parents=True, exist_ok=True)
        try:
            self.db = sqlite3.connect(folder / "cases.sqlite", timeout=30.0, isolation_level=None)
            self.db.execute("PRAGMA journal_mode=WAL")
            self.db.execute("PRAGMA synchronous=FULL")
            self.db.executescript(SCHEMA)
        except sqlite3.DatabaseError as error:
            raise UserError(f"{folder / 'cases.sqlite'}: not a run's store ({error}); choose another --out") from None

    def close(self) -> None:
        """Closes the database; the write-ahead log goes into it."""
        self.db.close()

    def write_image(self, name: str, png: bytes) -> None:
        """Writes an image beside, then renames it."""
        write_beside(self.image_path(name), lambda part: part.write_bytes(png))

    def image_path(self, name: str) -> Path:
        """Where an image lies: a case's by its key, a factual by its film's name.

        Raises:
            UserError: The name would lead elsewhere.
        """
        if "/" in name or "\0" in name:
            raise UserError(f"film '{name}': a name with '/' cannot be kept in a run; rename it in the data set")
        return self.folder / "images" / f"{name}.png"

    def read_image(self, name: str) -> Tensor:
        """An image (1, H, W) in [0, 1].

        Raises:
            UserError: It is missing or damaged.
        """
        return torch.from_numpy(self._levels(name).astype(np.float32) / np.float32(65535)).unsqueeze(0)

    def read_masks(self, name: str, count: int) -> Tensor:
        """Masks (C, H, W) bool, as `masks_png` wrote them.

        Raises:
            UserError: The image is missing or damaged.
        """
        levels = torch.from_numpy(self._levels(name).astype(np.int32))
        return (levels >> torch.arange(count).view(-1, 1, 1) & 1).bool()

    def _levels(self, name: str) -> np.ndarray:
        try:
            with Image.open(self.image_path(name)) as image:
                return np.asarray(image)
        except OSError as error:
            raise UserError(f"{self.image_path(name)}: cannot be read ({error}); begin a new run") from None

    def write_plan(self, cases: Sequence[Case]) -> None:
        """Keeps the cases of a run, in their order."""
        values = [
            (c.key, c.method, c.kind, c.film, c.intervention.finding, int(c.intervention.present), c.seed, c.source)
            for c in cases
        ]
        self.db.execute("BEGIN IMMEDIATE")
        self.db.execute("DELETE FROM plan")
        self.db.executemany(f"INSERT INTO plan VALUES ({', '.join('?' * 8)})", values)
        self.db.execute("COMMIT")

    def plan(self) -> list[Case]:
        """The cases of the run, in their order."""
        return [
            Case(key, method, kind, film, Intervention(finding, bool(present)), seed, source)
            for key, method, kind, film, finding, present, seed, source in self.db.execute(
                "SELECT * FROM plan ORDER BY rowid"
            )
        ]

    def add_film(self, row: FilmRow, images: dict[str, bytes]) -> None:
        """Adds a film after its images."""
        for name, png in images.items():
            self.write_image(name, png)
        values = (row.name, row.patient, json.dumps(row.findings))
        self.db.execute("INSERT OR REPLACE INTO films VALUES (?, ?, ?, ?)", (*values, seal(values, row.arrays)))

    def add_cases(self, rows: Sequence[CaseRow], images: dict[str, bytes]) -> None:
        """Adds a batch's rows in one transaction, after their images."""
        for name, png in images.items():
            self.write_image(name, png)
        values = []
        for r in rows:
            asked = (r.key, r.method, r.kind, r.film, r.finding, int(r.present), r.seed)
            told = (*asked, r.error, r.seconds, r.peak_mb, json.dumps(r.record))
            values.append((*told, seal(told, r.arrays)))
        self.db.execute("BEGIN IMMEDIATE")
        self.db.executemany(f"INSERT OR REPLACE INTO cases VALUES ({', '.join('?' * 12)})", values)
        self.db.execute("COMMIT")

    def finished(self, *, failed: bool = True) -> set[str]:
        """Keys of the cases that have a row; without those that failed where `failed` is False."""
        query = "SELECT key FROM cases" + ("" if failed else " WHERE error = ''")
        return {key for (key,) in self.db.execute(query)}

    def films(self) -> dict[str, FilmRow]:
        """Every film by name."""
        films = {}
        for *told, sealed in self.db.execute("SELECT name, patient, findings, arrays FROM films ORDER BY name"):
            name, patient, known = told
            films[name] = FilmRow(name, patient, json.loads(known), self._arrays(told, sealed))
        return films

    def cases(self, keys: Sequence[str] | None = None) -> Iterator[CaseRow]:
        """Finished cases by key, or those of `keys` in their order."""
        columns = [each.name for each in fields(CaseRow)]
        if keys is None:
            keys = [key for (key,) in self.db.execute("SELECT key FROM cases ORDER BY key")]
        for key in keys:
            row = self.db.execute(f"SELECT {', '.join(columns)} FROM cases WHERE key = ?", (key,)).fetchone()
            if row is not None:
                values = dict(zip(columns, row, strict=True)) | {"arrays": self._arrays(row[:-1], row[-1])}
                values |= {"present": bool(values["present"]), "record": json.loads(values["record"])}
                yield CaseRow(**values)

    def _arrays(self, told: Sequence[Any], sealed: bytes) -> dict[str, Tensor]:
        try:
            return unseal(told, sealed)
        except (ValueError, SafetensorError):
            name = self.folder / "cases.sqlite"
            raise UserError(f"{name}: the row of {told[0]} is damaged; `cfkit bench --resume {self.folder}`") from None


def lock(folder: Path) -> IO[str]:
    """Takes the folder for this process until the file that is returned is closed or the process ends.

    Raises:
        UserError: Another process has it, or it cannot be written.
    """
    try:
        stream = (folder / ".lock").open("w")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); check its permissions") from None
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        stream.close()
        raise UserError(f"--out {folder}: another run is writing there; wait for it or choose another folder") from None
    return stream
