"""Public data sets in the layouts in which they are published, and plain folders.

Each reader takes a folder and what uncertain labels are to mean, and gives the frontal films with how
many others it passed over. A finding that is not known to be there or not is not among a film's
findings. Splits are the publisher's own.
"""

from __future__ import annotations

import csv
import gzip
import hmac
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..errors import UserError
from ..findings import FINDINGS, canonical
from .films import FilmFolder, Record
from .patient_key import patient_key

UNCERTAIN = {"ignore": None, "present": True, "absent": False}
FRONTAL = ("PA", "AP", "AP_horizontal", "")
COLUMNS = {"file": ("file", "path", "image", "filename"), "patient": ("patient", "patient_id", "subject_id")}

Read = tuple[list[Record], int]


def read_table(path: Path, *wanted: str) -> Iterator[dict[str, str]]:
    """The lines of a CSV file, packed or not.

    Args:
        path: The file.
        wanted: Columns without which it is of no use.

    Raises:
        UserError: It cannot be read, or lacks a column.
    """
    try:
        with _open(path) as stream:
            for k, line in enumerate(csv.DictReader(stream)):
                row = {(key or "").strip(): (value or "").strip() for key, value in line.items() if key is not None}
                if k == 0 and (missing := [column for column in wanted if column not in row]):
                    raise UserError(f"{path}: has no column {', '.join(missing)}")
                yield row
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a table ({error}); copy it again") from None


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", newline="", encoding="utf-8-sig")
    return path.open(newline="", encoding="utf-8-sig")


def _graded(row: Mapping[str, str], uncertain: str) -> dict[str, bool]:
    """CheXpert's labels: 1, 0, -1 for uncertain, nothing where a report does not speak of it."""
    found: dict[str, bool] = {}
    for finding in FINDINGS:
        text = row.get(finding, "")
        if text in ("1", "1.0", "0", "0.0"):
            found[finding] = text.startswith("1")
        elif text in ("-1", "-1.0") and (meaning := UNCERTAIN[uncertain]) is not None:
            found[finding] = meaning
        elif text == "" and row.get("No Finding", "") in ("1", "1.0"):
            found[finding] = False
    return found


def _listed(labels: Sequence[str]) -> dict[str, bool]:
    """Labels of a data set that names every finding which is there."""
    named = {finding for label in labels if (finding := find_canonical(label))}
    return {finding: finding in named for finding in FINDINGS}


def column_of(name: str) -> str | None:
    """The finding that a column tells of, by name alone: "Atelectasis score" tells of something else."""
    try:
        return canonical(name)
    except UserError:
        return None


def find_canonical(label: str) -> str | None:
    """The finding that a listed label stands for, None for others: atelectases and pleural effusions of any kind too.

    >>> find_canonical("Effusion"), find_canonical("atelectasis basal"), find_canonical("loculated pleural effusion")
    ('Pleural Effusion', 'Atelectasis', 'Pleural Effusion')
    >>> find_canonical("hernia"), find_canonical("pericardial effusion")
    (None, None)
    """
    if named := column_of(label):
        return named
    words = set(label.lower().split())
    if "no" in words:
        return None
    if "hydropneumothorax" in words or ("effusion" in words and words & {"pleural", "fissural"}):
        return "Pleural Effusion"
    return "Atelectasis" if "atelectasis" in words else None


def read_chexpert(folder: Path, uncertain: str) -> Read:
    """CheXpert v1.0 and -small (Irvin et al., AAAI 2019): `train.csv`, `valid.csv`, `test.csv`."""
    records, lateral = [], 0
    for split in ("train", "valid", "test"):
        table = folder / f"{split}.csv"
        if not table.is_file():
            continue
        for row in read_table(table, "Path"):
            parts = row["Path"].split("/")
            start = next((i for i, part in enumerate(parts) if part in ("train", "valid", "test")), 0)
            parts = parts[start:]  # the data set's own name comes first
            if row.get("Frontal/Lateral", "") == "Lateral" or "lateral" in parts[-1].lower():
                lateral += 1
                continue
            name = "_".join(parts).rsplit(".", 1)[0]
            patient = next((part for part in parts if part.startswith("patient")), name)
            findings = _graded(row, uncertain)
            records.append(Record(name, patient, findings, row.get("AP/PA", ""), split=split, file="/".join(parts)))
    return records, lateral


def read_nih(folder: Path, uncertain: str) -> Read:
    """NIH ChestX-ray14 (Wang et al., CVPR 2017): `Data_Entry_2017*.csv`, images in one folder or in twelve."""
    table = next(iter(sorted(folder.glob("Data_Entry_2017*.csv"))))
    test = folder / "test_list.txt"
    tested = set(test.read_text().split()) if test.is_file() else set()
    places = {path.name: path for path in folder.glob("images*/*.png")}
    places |= {path.name: path for path in folder.glob("images*/images/*.png")}
    records = []
    for row in read_table(table, "Image Index", "Finding Labels", "Patient ID"):
        file = row["Image Index"]
        split = ("test" if file in tested else "train_val") if tested else ""
        findings, view = _listed(row["Finding Labels"].split("|")), row.get("View Position", "")
        relative = places[file].relative_to(folder).as_posix() if file in places else f"images/{file}"
        records.append(Record(Path(file).stem, row["Patient ID"], findings, view, split=split, file=relative))
    return records, 0


def read_mimic(folder: Path, uncertain: str) -> Read:
    """MIMIC-CXR-JPG (Johnson et al. 2019): its metadata, split and CheXpert tables, `files/p10/...`."""

    def table(kind: str) -> Path:
        return next(iter(sorted(folder.glob(f"mimic-cxr-*-{kind}.csv*"))), folder / f"mimic-cxr-2.0.0-{kind}.csv.gz")

    labels = {row["study_id"]: _graded(row, uncertain) for row in read_table(table("chexpert"), "study_id")}
    splits = {row["dicom_id"]: row["split"] for row in read_table(table("split"), "dicom_id", "split")}
    records, lateral = [], 0
    for row in read_table(table("metadata"), "dicom_id", "subject_id", "study_id", "ViewPosition"):
        view, name, patient, study = (row[c] for c in ("ViewPosition", "dicom_id", "subject_id", "study_id"))
        if view not in ("PA", "AP"):
            lateral += 1
            continue
        file = f"files/p{patient[:2]}/p{patient}/s{study}/{name}.jpg"
        findings, split = labels.get(study, {}), splits.get(name, "")
        records.append(Record(name.replace("/", "_"), patient, findings, view, split=split, file=file))
    return records, lateral


def read_padchest(folder: Path, uncertain: str) -> Read:
    """PadChest (Bustos et al., MedIA 2020): `PADCHEST_*.csv`, images beside it or in folders by number."""
    table = next(iter(sorted(folder.glob("PADCHEST_*.csv*"))))
    records, lateral = [], 0
    for row in read_table(table, "ImageID", "PatientID", "Projection", "Labels"):
        if row["Projection"] not in ("PA", "AP", "AP_horizontal"):
            lateral += 1
            continue
        labels = re.findall(r"'\s*([^']*?)\s*'", row["Labels"])
        known = labels and not {"exclude", "unchanged", "suboptimal study"} & set(labels)
        nested = f"{row.get('ImageDir', '')}/{row['ImageID']}"
        file = nested if row.get("ImageDir") and (folder / row["ImageDir"]).is_dir() else row["ImageID"]
        name, view = Path(row["ImageID"]).stem, row["Projection"].partition("_")[0]
        records.append(Record(name, row["PatientID"], _listed(labels) if known else {}, view, file=file))
    return records, lateral


def read_brax(folder: Path, uncertain: str) -> Read:
    """BRAX (Reis et al., Scientific Data 2022): `master_spreadsheet*.csv` with CheXpert's labels."""
    table = next(iter(sorted(folder.glob("master_spreadsheet*.csv"))))
    records, lateral = [], 0
    for row in read_table(table, "PngPath", "PatientID", "ViewPosition"):
        if row["ViewPosition"] not in ("PA", "AP"):
            lateral += 1
            continue
        name, findings = row["PngPath"].replace("/", "_").rsplit(".", 1)[0], _graded(row, uncertain)
        records.append(Record(name, row["PatientID"], findings, row["ViewPosition"], file=row["PngPath"]))
    return records, lateral


def read_vindr(folder: Path, uncertain: str) -> Read:
    """VinDr-CXR (Nguyen et al., Scientific Data 2022): `annotations/image_labels_*.csv`, DICOM by split.

    A finding is there if most of a film's radiologists say so. Patients are not told: each film counts as one.
    """
    records = []
    for split in ("train", "test"):
        table = folder / "annotations" / f"image_labels_{split}.csv"
        votes: dict[str, dict[str, list[int]]] = {}
        for row in read_table(table, "image_id") if table.is_file() else ():
            said = votes.setdefault(row["image_id"], {})
            for label, value in row.items():
                finding = column_of(label)
                if finding and value in ("0", "1"):
                    said.setdefault(finding, []).append(int(value))
        for name, said in votes.items():
            findings = {finding: 2 * sum(marks) > len(marks) for finding, marks in said.items()}
            suffix = "dicom" if (folder / split / f"{name}.dicom").is_file() else "dcm"
            plain = name.replace("/", "_")
            records.append(Record(plain, plain, findings, "PA", split=split, file=f"{split}/{name}.{suffix}"))
    return records, 0


def read_plain(folder: Path, uncertain: str) -> Read:
    """A table of your own, `labels.csv` or `films.csv`.

    Columns: file; patient; and either findings ("A|B", "No Finding") or one a finding (1, 0, -1, empty);
    view and split where known.
    """
    table = next(path for name in ("labels.csv", "films.csv") if (path := folder / name).is_file())
    records, lateral, named = [], 0, {"file": "", "patient": ""}
    for k, row in enumerate(read_table(table)):
        if k == 0:
            for meaning, names in COLUMNS.items():
                named[meaning] = next((name for name in names if name in row), "")
            if not named["file"]:
                raise UserError(f"{table}: has no column {' or '.join(COLUMNS['file'])}")
        if row.get("view", "").upper() in ("L", "LATERAL", "LL"):
            lateral += 1
            continue
        file = row[named["file"]]
        name = file.replace("/", "_").rsplit(".", 1)[0]
        patient = (row[named["patient"]] if named["patient"] else "") or name
        told = {found: value for column, value in row.items() if (found := column_of(column))}
        told |= {"No Finding": row.get("No Finding", "")}
        findings = _listed(row["findings"].split("|")) if row.get("findings") else _graded(told, uncertain)
        records.append(Record(name, patient, findings, row.get("view", ""), split=row.get("split", ""), file=file))
    return records, lateral


def read_dicoms(folder: Path, uncertain: str) -> Read:
    """DICOM files anywhere in a folder; patients and views by tags, findings not known.

    A patient is told by a digest of PatientID with a key that stays with the user (`patient_key`).
    """
    import pydicom

    records, lateral, key = [], 0, patient_key()
    for path in sorted(p for pattern in ("*.dcm", "*.dicom") for p in folder.rglob(pattern)):
        try:
            tags = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["PatientID", "ViewPosition"])
        except (OSError, pydicom.errors.InvalidDicomError) as error:
            raise UserError(f"{path}: not a DICOM file ({error}); take it out of the folder") from None
        view = str(tags.get("ViewPosition", "") or "")
        if view not in FRONTAL:
            lateral += 1
            continue
        file = path.relative_to(folder).as_posix()
        name = file.replace("/", "_").rsplit(".", 1)[0]
        identity = str(tags.get("PatientID", "") or name)
        patient = hmac.new(key, identity.encode(), "sha256").hexdigest()[:12]  # told apart, not named
        records.append(Record(name, patient, {}, view, file=file))
    return records, lateral


@dataclass(frozen=True)
class Layout:
    """A layout: how a folder of it is recognised, and read."""

    name: str
    looks_so: Callable[[Path], bool]
    read: Callable[[Path, str], Read]


def _has(*patterns: str) -> Callable[[Path], bool]:
    return lambda folder: all(any(folder.glob(pattern)) for pattern in patterns)


LAYOUTS = (
    Layout("CheXpert", lambda f: any((f / f"{s}.csv").is_file() for s in ("train", "valid")), read_chexpert),
    Layout("NIH ChestX-ray14", _has("Data_Entry_2017*.csv"), read_nih),
    Layout("MIMIC-CXR-JPG", _has("mimic-cxr-*-metadata.csv*", "mimic-cxr-*-chexpert.csv*"), read_mimic),
    Layout("PadChest", _has("PADCHEST_*.csv*"), read_padchest),
    Layout("BRAX", _has("master_spreadsheet*.csv"), read_brax),
    Layout("VinDr-CXR", _has("annotations/image_labels_*.csv"), read_vindr),
    Layout("folder with a table", lambda f: any((f / n).is_file() for n in ("labels.csv", "films.csv")), read_plain),
    Layout("folder of DICOM files", lambda f: any(True for p in ("*.dcm", "*.dicom") for _ in f.rglob(p)), read_dicoms),
)


def open_films(folder: Path, *, uncertain: str = "ignore") -> FilmFolder:
    """A folder's films, in whichever layout it has.

    Raises:
        UserError: It has none that is known, or its index cannot be read.
    """
    if uncertain not in UNCERTAIN:
        raise UserError(f"--uncertain {uncertain}: {', '.join(UNCERTAIN)} is wanted")
    for layout in LAYOUTS:
        if layout.looks_so(folder):
            records, left_out = layout.read(folder, uncertain)
            if not records:
                raise UserError(f"{folder}: looks like {layout.name}, but no frontal film is in its index")
            return FilmFolder(folder, layout.name, records, left_out)
    names = ", ".join(layout.name for layout in LAYOUTS)
    raise UserError(
        f"--data {folder}: in no layout that is known ({names}); a labels.csv with file, patient and "
        "findings makes it one"
    )
