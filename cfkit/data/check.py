"""What `cfkit data check` says of a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import UserError
from ..findings import FINDINGS
from .films import FilmFolder, Record, find_faults
from .layouts import open_films
from .virtual.read import VirtualFolder, is_virtual

SHOWN = 3  # of what is wrong, by name


def check_folder(folder: Path, *, uncertain: str, report: Callable[[str], None]) -> bool:
    """Reports layout, counts and faults; returns whether there are any.

    Raises:
        UserError: It is no folder, or in no layout that is known.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    data = virtual_films(folder) if is_virtual(folder) else open_films(folder, uncertain=uncertain)
    records = data.records
    patients = len({record.patient for record in records})
    report(f"{folder}: {data.layout}, {len(records)} frontal films of {patients} patients")
    if data.left_out:
        report(f"passed over: {data.left_out} films of other views")
    for name, counts in (
        ("split", Counter(record.split or "none named" for record in records)),
        ("view", Counter(record.view or "not told" for record in records)),
    ):
        report(f"{name}: " + ", ".join(f"{key} {count}" for key, count in sorted(counts.items())))
    for finding in FINDINGS:
        known = [record.findings[finding] for record in records if finding in record.findings]
        report(
            f"{finding}: present {sum(known)}, absent {len(known) - sum(known)}, not known {len(records) - len(known)}"
        )
    faults = find_faults(data)
    told = {
        "missing files": faults.missing,
        "files outside the folder": faults.outside,
        "patients in more than one split": faults.shared,
        "names that stand twice": faults.twice,
    }
    for what, names in told.items():
        report(f"{what}: {_some(names)}")
    return any(told.values())


def virtual_films(folder: Path) -> FilmFolder:
    """A folder of `cfkit data virtual` as films with an index."""
    virtual = VirtualFolder(folder)
    pairs = zip(virtual.entries(), virtual.rows, strict=True)
    return FilmFolder(folder, "virtual patients", [Record(**vars(entry), file=row["file"]) for entry, row in pairs])


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} ({', '.join(names[:SHOWN])}{more})" if names else "none"
