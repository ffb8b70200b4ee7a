"""Public data sets, on small trees in the layouts in which they are published."""

import csv
import gzip
import hmac
import io

import numpy as np
import platformdirs
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

import cfkit
from cfkit import UserError
from cfkit.bench.plan import make_plan
from cfkit.bench.store import Store
from cfkit.bench.suite import Suite, parse_methods
from cfkit.data.check import check_folder
from cfkit.data.dataset import open_dataset
from cfkit.data.films import find_faults
from cfkit.data.layouts import open_films
from cfkit.data.virtual.volume import load_anatomy
from cfkit.data.virtual.write import write_patients

CHEXPERT = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", "No Finding", "Enlarged Cardiomediastinum",
            "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis",
            "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices"]  # fmt: skip


def write_film(path, size=(48, 40), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.random.default_rng(seed).integers(0, 255, size, dtype=np.uint8)
    Image.fromarray(levels).save(path)


def write_table(path, columns, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows({**dict.fromkeys(columns, ""), **row} for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.getvalue().encode()))
    else:
        path.write_text(text.getvalue())


def write_dicom(path, patient="7", view="PA", seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = SecondaryCaptureImageStorage, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.PatientID, data.ViewPosition, data.Modality = patient, view, "DX"
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.Rows, data.Columns, data.SamplesPerPixel, data.PhotometricInterpretation = 48, 40, 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.PixelData = np.random.default_rng(seed).integers(0, 255, (48, 40), dtype=np.uint8).tobytes()
    data.save_as(path, enforce_file_format=True)


def chexpert(folder, name="CheXpert-v1.0-small"):
    root = folder / name
    rows = {
        "train": [
            {"Path": "patient00001/study1/view1_frontal.jpg", "Frontal/Lateral": "Frontal", "AP/PA": "AP",
             "Cardiomegaly": "1.0", "Edema": "-1.0", "Atelectasis": "0.0"},
            {"Path": "patient00001/study1/view2_lateral.jpg", "Frontal/Lateral": "Lateral", "Cardiomegaly": "1.0"},
            {"Path": "patient00002/study3/view1_frontal.jpg", "Frontal/Lateral": "Frontal", "AP/PA": "PA",
             "No Finding": "1.0"},
        ],
        "valid": [
            {"Path": "patient64541/study1/view1_frontal.jpg", "Frontal/Lateral": "Frontal", "AP/PA": "AP",
             **dict.fromkeys(CHEXPERT[5:], "0.0"), "Pleural Effusion": "1.0"},
        ],
    }  # fmt: skip
    for split, lines in rows.items():
        for k, row in enumerate(lines):
            row["Path"] = f"{name}/{split}/{row['Path']}"
            write_film(folder / row["Path"], seed=k)
        write_table(root / f"{split}.csv", CHEXPERT, lines)
    return root


def nih(folder):
    columns = ["Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender",
               "View Position", "OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]"]  # fmt: skip
    rows = [
        {"Image Index": "00000001_000.png", "Finding Labels": "Cardiomegaly|Effusion", "Patient ID": "1",
         "View Position": "PA"},
        {"Image Index": "00000003_001.png", "Finding Labels": "No Finding", "Patient ID": "3", "View Position": "AP"},
    ]  # fmt: skip
    write_table(folder / "Data_Entry_2017_v2020.csv", columns, rows)
    write_film(folder / "images_001" / "images" / "00000001_000.png")
    write_film(folder / "images_012" / "images" / "00000003_001.png")
    (folder / "test_list.txt").write_text("00000003_001.png\n")
    (folder / "train_val_list.txt").write_text("00000001_000.png\n")
    return folder


def mimic(folder):
    ids = {"subject_id": "10000032", "study_id": "50414267"}
    write_table(
        folder / "mimic-cxr-2.0.0-metadata.csv.gz",
        ["dicom_id", "subject_id", "study_id", "ViewPosition"],
        [{"dicom_id": "aa-bb", **ids, "ViewPosition": "PA"}, {"dicom_id": "cc-dd", **ids, "ViewPosition": "LATERAL"}],
    )
    write_table(
        folder / "mimic-cxr-2.0.0-chexpert.csv.gz",
        ["subject_id", "study_id", *CHEXPERT[5:]],
        [{**ids, "Pleural Effusion": "1.0", "Edema": "-1.0"}],
    )
    split = {**ids, "dicom_id": "aa-bb", "split": "validate"}
    write_table(folder / "mimic-cxr-2.0.0-split.csv.gz", ["dicom_id", "study_id", "subject_id", "split"], [split])
    write_film(folder / "files" / "p10" / "p10000032" / "s50414267" / "aa-bb.jpg")
    return folder


def padchest(folder):
    rows = [
        {"ImageID": "1_a.png", "ImageDir": "0", "PatientID": "p1", "Projection": "AP_horizontal",
         "Labels": "['laminar atelectasis', ' pleural effusion']"},
        {"ImageID": "2_b.png", "ImageDir": "0", "PatientID": "p2", "Projection": "PA", "Labels": "['normal']"},
        {"ImageID": "3_c.png", "ImageDir": "0", "PatientID": "p3", "Projection": "PA", "Labels": "['exclude']"},
        {"ImageID": "4_d.png", "ImageDir": "0", "PatientID": "p2", "Projection": "L", "Labels": "['normal']"},
    ]  # fmt: skip
    write_table(folder / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", list(rows[0]), rows)
    for k, row in enumerate(rows):
        levels = np.random.default_rng(k).integers(0, 4000, (48, 40), dtype=np.uint16)
        (folder / "0").mkdir(exist_ok=True)
        Image.fromarray(levels).save(folder / "0" / row["ImageID"])
    return folder


def brax(folder):
    png = "images/id_1/Study_1/Series_1/image-1.png"
    rows = [
        {"PngPath": png, "PatientID": "id_1", "ViewPosition": "AP", "Cardiomegaly": "1", "Edema": "0"},
        {"PngPath": png.replace("image-1", "image-2"), "PatientID": "id_1", "ViewPosition": "L"},
    ]
    write_table(folder / "master_spreadsheet_update.csv", ["PngPath", "PatientID", "ViewPosition", *CHEXPERT[5:]], rows)
    write_film(folder / png)
    return folder


def vindr(folder):
    columns = ["image_id", "rad_id", "Aortic enlargement", "Atelectasis", "Cardiomegaly", "Consolidation", "Edema",
               "Pleural effusion", "No finding"]  # fmt: skip
    marks = ((1, 1), (1, 0), (0, 0))
    rows = [
        {**dict.fromkeys(columns, "0"), "image_id": "50a4", "rad_id": f"R{k}", "Cardiomegaly": c, "Pleural effusion": e}
        for k, (c, e) in enumerate(marks)
    ]
    write_table(folder / "annotations" / "image_labels_train.csv", columns, rows)
    write_dicom(folder / "train" / "50a4.dicom")
    return folder


def plain(folder):
    rows = [
        {"path": "a/1.png", "patient_id": "1", "Cardiomegaly": "1", "effusion": "-1", "view": "PA", "split": "mine"},
        {"path": "a/2.png", "patient_id": "2", "Cardiomegaly": "0", "effusion": "", "view": "lateral", "split": "mine"},
    ]
    write_table(folder / "labels.csv", list(rows[0]), rows)
    write_film(folder / "a" / "1.png")
    return folder


def dicoms(folder):
    write_dicom(folder / "deep" / "one.dcm", patient="P1", view="AP")
    write_dicom(folder / "two.dcm", patient="P2", view="LL", seed=1)
    return folder


CASES = {
    chexpert: ("CheXpert", 3, 1, {"Cardiomegaly": True, "Atelectasis": False}, "patient00001", "AP", "train"),
    nih: ("NIH ChestX-ray14", 2, 0, {"Cardiomegaly": True, "Pleural Effusion": True, "Atelectasis": False,
          "Edema": False, "Consolidation": False}, "1", "PA", "train_val"),
    mimic: ("MIMIC-CXR-JPG", 1, 1, {"Pleural Effusion": True}, "10000032", "PA", "validate"),
    padchest: ("PadChest", 3, 1, {"Atelectasis": True, "Pleural Effusion": True, "Cardiomegaly": False, "Edema": False,
               "Consolidation": False}, "p1", "AP", ""),
    brax: ("BRAX", 1, 1, {"Cardiomegaly": True, "Edema": False}, "id_1", "AP", ""),
    vindr: ("VinDr-CXR", 1, 0, {"Cardiomegaly": True, "Pleural Effusion": False, "Atelectasis": False,
            "Consolidation": False, "Edema": False}, "50a4", "PA", "train"),
    plain: ("folder with a table", 1, 1, {"Cardiomegaly": True}, "1", "PA", "mine"),
    dicoms: ("folder of DICOM files", 1, 1, {}, hmac.new(b"key", b"P1", "sha256").hexdigest()[:12], "AP", ""),
}  # fmt: skip


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_every_layout_is_recognised_and_read(tmp_path, make):
    layout, count, left_out, findings, patient, view, split = CASES[make]
    folder = make(tmp_path)
    data = open_films(folder)
    assert (data.layout, len(data), data.left_out) == (layout, count, left_out)
    first = data.entries()[0]
    assert (first.findings, first.patient, first.view, first.split) == (findings, patient, view, split)
    for sample in open_dataset(str(folder)):
        assert sample.image.shape == (1, 48, 40) and 0 <= sample.image.min() < sample.image.max() <= 1
    faults = find_faults(data)
    assert not (faults.missing or faults.outside or faults.shared or faults.twice)


def test_patients_of_dicoms_are_told_apart_by_a_key_of_the_users_own(tmp_path, monkeypatch):
    monkeypatch.delenv("CFKIT_PATIENT_KEY")
    found = []
    for user in ("a", "b"):
        monkeypatch.setattr(platformdirs, "user_data_dir", lambda name, user=user: str(tmp_path / user))
        found += [open_films(dicoms(tmp_path / "data")).entries()[0].patient for _ in range(2)]
    assert found[0] == found[1] != found[2] == found[3]
    assert (tmp_path / "a" / "patient-key").stat().st_mode & 0o077 == 0


def test_names_that_lead_out_of_a_run_are_made_plain(tmp_path):
    folder = vindr(tmp_path)
    table = folder / "annotations" / "image_labels_train.csv"
    table.write_text(table.read_text().replace("50a4", "../50a4"))
    assert [entry.name for entry in open_films(folder).entries()] == [".._50a4"]
    with pytest.raises(UserError, match="a name with"):
        Store(tmp_path / "run").image_path("../x")


def test_indexes_that_lead_nowhere_are_named(tmp_path):
    folder = nih(tmp_path / "nih")
    table = folder / "Data_Entry_2017_v2020.csv"
    table.write_text(table.read_text().replace("00000001_000.png", "/etc/00000001_000.png"))
    assert find_faults(open_films(folder)).outside or find_faults(open_films(folder)).missing
    folder = mimic(tmp_path / "mimic")
    write_table(folder / "mimic-cxr-2.0.0-split.csv.gz", ["dicom_id"], [{"dicom_id": "aa-bb"}])
    with pytest.raises(UserError, match="has no column split"):
        open_films(folder)


def test_a_film_without_a_patient_is_its_own(tmp_path):
    write_table(tmp_path / "labels.csv", ["file", "patient", "findings"], [
        {"file": f"{k}.png", "patient": "", "findings": "Edema"} for k in range(2)
    ])  # fmt: skip
    assert [entry.patient for entry in open_films(tmp_path).entries()] == ["0", "1"]


def test_a_column_that_is_called_like_a_finding_and_more_is_none(tmp_path):
    row = {"file": "a.png", "patient": "1", "Atelectasis": "1", "Atelectasis score": "0"}
    write_table(tmp_path / "labels.csv", list(row), [row])
    assert open_films(tmp_path).entries()[0].findings == {"Atelectasis": True}


def test_two_films_of_one_name_are_refused_by_the_benchmark(tmp_path):
    rows = [{"file": f"a.{kind}", "patient": kind, "findings": "No Finding"} for kind in ("png", "jpg")]
    write_table(tmp_path / "labels.csv", ["file", "patient", "findings"], rows)
    suite = Suite(methods=parse_methods("ours"), data=str(tmp_path))
    with pytest.raises(UserError, match="2 films are called 'a'"):
        make_plan(suite, open_dataset(str(tmp_path)), cfkit.load_bundle("demo", device="cpu"))


def test_virtual_patients_are_checked_as_what_they_are(tmp_path):
    write_patients(load_anatomy(), tmp_path, patients=1, seed=5, size=32)
    said = []
    assert not check_folder(tmp_path, uncertain="ignore", report=said.append)
    assert "virtual patients, 4 frontal films of 1 patients" in said[0]
    assert "Cardiomegaly: present 1, absent 3, not known 0" in said


def test_chexpert_of_both_sizes_and_its_policies(tmp_path):
    names = [open_films(chexpert(tmp_path / name, name)).entries()[0].name for name in ("CheXpert-v1.0", "x-small")]
    assert names[0] == names[1] == "train_patient00001_study1_view1_frontal"
    root = chexpert(tmp_path / "again")
    for policy, edema in (("ignore", None), ("present", True), ("absent", False)):
        assert open_films(root, uncertain=policy).entries()[0].findings.get("Edema") is edema
    assert open_films(root).entries()[1].findings == dict.fromkeys(cfkit.findings.FINDINGS, False)
    valid = open_dataset(str(root), split="valid")
    assert [entry.patient for entry in valid.entries()] == ["patient64541"]
    with pytest.raises(UserError, match="--split test: the splits are train, valid"):
        open_dataset(str(root), split="test")
    with pytest.raises(UserError, match="--uncertain maybe"):
        open_dataset(str(root), uncertain="maybe")


def test_faults_are_found(tmp_path):
    rows = [
        {"file": "1.png", "patient": "1", "findings": "", "split": "train"},
        {"file": "2.png", "patient": "1", "findings": "Edema", "split": "test"},
        {"file": "1.png", "patient": "2", "findings": "Edema", "split": "test"},
        {"file": "../out.png", "patient": "3", "findings": "Edema", "split": "test"},
    ]
    write_table(tmp_path / "d" / "labels.csv", list(rows[0]), rows)
    write_film(tmp_path / "d" / "1.png")
    write_film(tmp_path / "out.png")
    data = open_films(tmp_path / "d")
    faults = find_faults(data)
    assert faults.missing == ("2.png",) and faults.outside == ("../out.png",)
    assert faults.shared == ("1",) and faults.twice == ("1",)
    with pytest.raises(UserError, match="lies outside"):
        data[3]
    with pytest.raises(UserError, match=r"2\.png: not found"):
        data[1]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("train.csv", b"Sex,Age\nF,3\n", "has no column Path"),
        ("Data_Entry_2017.csv", b"Image Index\n1.png\n", "has no column Finding Labels, Patient ID"),
        ("labels.csv", b"patient\n1\n", "has no column file or path"),
        ("labels.csv", b"file\n", "no frontal film is in its index"),
        ("labels.csv", b"file,patient\n\xff\xfe,1\n", "cannot be read as a table"),
        ("PADCHEST_x.csv.gz", b"\x1f\x8bhalf", "cannot be read as a table"),
        ("a.dcm", b"no dicom", "not a DICOM file"),
        ("notes.txt", b"", "in no layout that is known"),
    ],
)
def test_an_index_that_cannot_be_used_is_named(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        open_films(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_benchmark_is_planned_on_them_the_same_way_every_time(tmp_path):
    root, bundle = chexpert(tmp_path), cfkit.load_bundle("demo", device="cpu")
    suite = Suite(methods=parse_methods("gifsplanation"), data=str(root), split="valid")
    plans = [make_plan(suite, suite.open_data(), bundle) for _ in range(2)]
    assert plans[0].hash == plans[1].hash
    asked = {(c.intervention.finding, c.intervention.present) for c in plans[0].cases}
    assert asked == {("Atelectasis", True), ("Cardiomegaly", True), ("Pleural Effusion", False)}
