"""What a damaged store still holds: a disk that filled up, a file whose tail was lost."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ..errors import UserError
from .store import SCHEMA, Store, unseal

TABLES = ("plan", "films", "cases")  # the cases last: they are counted


def open_store(folder: Path) -> tuple[Store, str]:
    """Opens a run's store; one that is damaged is first made anew of the rows that can be read.

    Returns:
        The store, and a line that says what was saved, empty where nothing was damaged.

    Raises:
        UserError: It is no store at all.
    """
    path = folder / "cases.sqlite"
    if not path.is_file() or _is_sound(path):
        return Store(folder), ""
    _fill_up(path)
    fresh = folder / "cases.sqlite.part"
    fresh.unlink(missing_ok=True)
    saved = _copy_rows(path, fresh)
    damaged = folder / "cases.sqlite.damaged"
    os.replace(path, damaged)
    for tail in ("-wal", "-shm"):
        path.with_name(path.name + tail).unlink(missing_ok=True)
    os.replace(fresh, path)
    said = f"{path}: was damaged and is kept as {damaged.name}; {saved} cases are saved, others run again"
    return Store(folder), said


@contextmanager
def told_plainly(folder: Path, way_out: str = "") -> Iterator[None]:
    """What SQLite says of a store that it can neither read nor write, in one line with the way out.

    Raises:
        UserError: It says so.
    """
    try:
        yield
    except sqlite3.Error as error:
        path = folder / "cases.sqlite"
        out = way_out or f"`cfkit bench --resume {folder}` saves what it holds"
        raise UserError(f"{path}: cannot be read or written ({error}); {out}") from None


def _is_sound(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(path, timeout=30.0)) as db:
            sound = db.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
            tables = ("films", "cases") if sound else ()
            return sound and all(_is_whole(row) for table in tables for row in db.execute(f"SELECT * FROM {table}"))
    except sqlite3.OperationalError:  # not begun, or busy: no damage
        return True
    except sqlite3.DatabaseError as error:
        return "not a database" in str(error)  # that is told when it is opened


def _fill_up(path: Path) -> None:
    """Lengthens a file that was cut off to the pages that its header tells of: SQLite reads none of it otherwise."""
    with path.open("r+b") as stream:
        header = stream.read(32)
        size = int.from_bytes(header[16:18], "big")
        whole = (65536 if size == 1 else size) * int.from_bytes(header[28:32], "big")
        if header.startswith(b"SQLite format 3") and path.stat().st_size < whole < 2 * path.stat().st_size + 2**20:
            stream.truncate(whole)


def _copy_rows(path: Path, fresh: Path) -> int:
    """Copies the rows that can be read, whatever lies between them; returns how many cases."""
    with closing(sqlite3.connect(path, timeout=30.0)) as old, closing(sqlite3.connect(fresh)) as new:
        new.executescript(SCHEMA)
        for table in TABLES:
            rows = _readable(old, table)
            for row in rows:
                new.execute(f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * len(row))})", row)
        new.commit()
    return len(rows)


def _is_whole(row: Sequence[Any]) -> bool:
    try:
        unseal(row[:-1], row[-1])
    except (ValueError, TypeError, SafetensorError):
        return False
    return True


def _readable(db: sqlite3.Connection, table: str) -> list[tuple[object, ...]]:
    """Rows from the front and, where those end at a damaged page, from the back."""
    rows: dict[int, tuple[object, ...]] = {}
    for order in ("ASC", "DESC"):
        try:
            for number, *row in db.execute(f"SELECT rowid, * FROM {table} ORDER BY rowid {order}"):
                if table == "plan" or _is_whole(row):
                    rows[number] = tuple(row)
        except (sqlite3.DatabaseError, OverflowError):
            continue
        break
    return [rows[number] for number in sorted(rows)]
