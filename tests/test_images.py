"""Every kind of file in, the same size and depth out, untouched where not edited."""

import io
import os
import subprocess
import sys

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from cfkit import UserError
from cfkit.dicom import write_dicom
from cfkit.files import HOST, remove_leftovers, write_beside
from cfkit.images import SAMPLES, put_back, read_film, write_png

RAMP = np.linspace(0, 1, 120 * 100, dtype=np.float64).reshape(120, 100)


def dicom_film(path, *, bits=12, inverted=False, window=None, signed=False, rescale=None):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.PatientName, dataset.Modality = "A^B", "DX"
    dataset.Rows, dataset.Columns = RAMP.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME1" if inverted else "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = (8 if bits == 8 else 16), bits, bits - 1
    dataset.PixelRepresentation = int(signed)
    if window:
        dataset.WindowCenter, dataset.WindowWidth = window
    if rescale:
        dataset.RescaleSlope, dataset.RescaleIntercept = rescale
    low = -(1 << (bits - 1)) if signed else 0
    values = np.round(low + RAMP * ((1 << bits) - 1))
    dataset.PixelData = values.astype({8: "<u1"}.get(bits, "<i2" if signed else "<u2")).tobytes()
    dataset.save_as(path, enforce_file_format=True)
    return path


def save(tmp_path, mode, name="f.png", **kwargs):
    grey = (RAMP * 255).astype(np.uint8)
    if mode == "16":
        image = Image.fromarray((RAMP * 65535).astype(np.uint16))
    elif mode == "12":
        image = Image.fromarray((RAMP * 4095).astype(np.uint16))
    elif mode == "F":
        image = Image.fromarray(RAMP.astype(np.float32))
    elif mode == "P":
        image = Image.fromarray(grey).convert("RGB").quantize(256)
    else:
        image = Image.fromarray(grey).convert("RGB" if mode in ("RGBA", "CMYK") else "L").convert(mode)
    image.save(tmp_path / name, **kwargs)
    return tmp_path / name


@pytest.mark.parametrize(
    ("mode", "name", "tolerance"),
    [
        ("L", "f.png", 0.01), ("16", "f.png", 0.001), ("12", "f.png", 0.001), ("P", "f.png", 0.06),
        ("LA", "f.png", 0.01), ("RGBA", "f.png", 0.01), ("RGB", "f.png", 0.01), ("L", "f.jpg", 0.03),
        ("RGB", "f.jpg", 0.03), ("CMYK", "f.jpg", 0.05), ("L", "f.tif", 0.01), ("16", "f.tif", 0.001),
        ("F", "f.tif", 0.001),
    ],
)  # fmt: skip
def test_every_kind_of_image_reads_alike(tmp_path, mode, name, tolerance):
    film = read_film(save(tmp_path, mode, name))
    assert film.shown.shape == RAMP.shape
    assert np.abs(film.shown - RAMP).max() < tolerance
    assert film.depth == (16 if mode in ("16", "12", "F") else 8)


def test_a_negative_of_sixteen_bits_is_turned_over(tmp_path):
    film = read_film(save(tmp_path, "16", "f.tif", tiffinfo={262: 0}))
    assert np.abs(film.shown - (1.0 - RAMP)).max() < 0.001
    factual = film.working(64)
    write_png(tmp_path / "out.png", put_back(film, factual, factual))
    assert np.abs(read_film(tmp_path / "out.png").shown - film.shown).max() < 0.001


def test_a_dark_film_of_floats_stays_dark(tmp_path):
    Image.fromarray((RAMP * 0.05).astype(np.float32)).save(tmp_path / "f.tif")
    assert read_film(tmp_path / "f.tif").shown.max() == pytest.approx(0.05, abs=1e-3)


@pytest.mark.parametrize("attribute", ["WindowCenter", "WindowWidth", "VOILUTSequence"])
def test_an_empty_window_is_none(tmp_path, attribute):
    dataset = pydicom.dcmread(dicom_film(tmp_path / "f.dcm", bits=16))
    dataset.PixelData = np.round(RAMP * 4000).astype("<u2").tobytes()
    setattr(dataset, attribute, None)
    dataset.save_as(tmp_path / "f.dcm")
    assert read_film(tmp_path / "f.dcm").shown.max() == 1.0


@pytest.mark.parametrize("mode", ["L", "16", "12", "RGB"])
def test_no_edit_gives_the_very_same_values(tmp_path, mode):
    film = read_film(save(tmp_path, mode))
    factual = film.working(64)
    out = put_back(film, factual, factual)
    assert np.array_equal(out, film.stored) and out.dtype == film.stored.dtype


@pytest.mark.parametrize("mode", ["L", "16"])
def test_an_edit_lands_where_it_was_made_and_nowhere_else(tmp_path, mode):
    film = read_film(save(tmp_path, mode))
    factual = film.working(64)
    edited = factual.clone()
    edited[:, 24:40, 24:40] = (edited[:, 24:40, 24:40] + 0.2).clamp(max=1.0)
    out = put_back(film, factual, edited)
    assert out.shape == (120, 100)
    assert np.array_equal(out[:10], film.stored[:10]) and np.array_equal(out[110:], film.stored[110:])
    assert np.array_equal(out[:, :20], film.stored[:, :20])
    middle = film.display(out)[50:70, 40:60] - film.shown[50:70, 40:60]
    assert np.abs(middle - 0.2).max() < 0.02


def test_sixteen_bits_are_written_as_sixteen(tmp_path):
    film = read_film(save(tmp_path, "16"))
    write_png(tmp_path / "out.png", film.stored, text={"Description": "x"})
    again = Image.open(tmp_path / "out.png")
    assert np.array_equal(np.asarray(again), film.stored)
    assert again.text["Description"] == "x"


@pytest.mark.parametrize(
    "kwargs",
    [
        {}, {"bits": 8}, {"inverted": True}, {"window": (2047.5, 4096)}, {"window": (2000, 3000), "inverted": True},
        {"signed": True, "rescale": (1.0, 0.0)}, {"rescale": (2.0, -100.0), "window": (4000, 8000)}, {"bits": 16},
    ],
)  # fmt: skip
def test_dicom_is_shown_bright_where_dense_and_written_back(tmp_path, kwargs):
    path = dicom_film(tmp_path / "f.dcm", **kwargs)
    film = read_film(path)
    expected = 1 - RAMP if kwargs.get("inverted") else RAMP
    if "window" not in kwargs:
        assert np.abs(film.shown - expected).max() < 0.01
    factual = film.working(64)
    assert np.array_equal(put_back(film, factual, factual), film.stored)
    edited = (factual + 0.1 * (factual < 0.7)).clamp(0, 1)
    out = put_back(film, factual, edited)
    write_dicom(tmp_path / "out.dcm", film, out, description="test")
    again = read_film(tmp_path / "out.dcm")
    target = film.shown.copy()
    rows, columns = film.square
    change = torch.nn.functional.interpolate((edited - factual)[None], size=(100, 100), mode="bicubic", antialias=True)
    target[rows, columns] = (target[rows, columns] + change[0, 0].numpy()).clip(0, 1)
    assert np.abs(again.shown - target).max() < 0.02
    written, original = pydicom.dcmread(tmp_path / "out.dcm"), pydicom.dcmread(path)
    assert written.SOPInstanceUID != original.SOPInstanceUID
    assert written.SeriesInstanceUID != original.SeriesInstanceUID
    assert written.ImageType[0] == "DERIVED"
    assert "SYNTHETIC" in written.SeriesDescription


IDENTITY = {
    "PatientName": "Doe^Jane", "PatientID": "4711-X", "PatientBirthDate": "19500102", "StudyDate": "20240203",
    "InstitutionName": "Saint Elsewhere", "AccessionNumber": "ACC77", "OtherPatientIDs": "OTHER9",
    "PatientComments": "husband of John", "StudyDescription": "Doe follow-up", "DeviceSerialNumber": "SN0815",
}  # fmt: skip


@pytest.mark.parametrize("keep", [False, True])
def test_identity_is_left_out_unless_asked_for(tmp_path, keep):
    dataset = pydicom.dcmread(dicom_film(tmp_path / "f.dcm", window=(2047.5, 4096)))
    for keyword, value in IDENTITY.items():
        setattr(dataset, keyword, value)
    dataset.private_block(0x0011, "HOSPITAL", create=True).add_new(0x01, "LO", "Jane Doe private")
    dataset.save_as(tmp_path / "f.dcm")
    film = read_film(tmp_path / "f.dcm")
    write_dicom(tmp_path / "out.dcm", film, film.stored, description="test", keep_identity=keep)
    data = (tmp_path / "out.dcm").read_bytes()
    secrets = [*IDENTITY.values(), "Jane Doe private", dataset.SOPInstanceUID, dataset.StudyInstanceUID]
    found = [secret for secret in secrets if secret.encode() in data]
    assert found == (secrets if keep else [])
    written = pydicom.dcmread(tmp_path / "out.dcm")
    assert written.get("PatientIdentityRemoved", "NO") == ("NO" if keep else "YES")
    assert np.array_equal(read_film(tmp_path / "out.dcm").shown, film.shown)
    if keep:
        assert written.SourceImageSequence[0].ReferencedSOPInstanceUID == dataset.SOPInstanceUID


def test_compressed_dicom(tmp_path):
    dataset = pydicom.dcmread(dicom_film(tmp_path / "f.dcm"))
    dataset.compress(pydicom.uid.RLELossless)
    dataset.save_as(tmp_path / "rle.dcm")
    assert np.abs(read_film(tmp_path / "rle.dcm").shown - RAMP).max() < 0.01


def make_bad(tmp_path, kind):
    path = tmp_path / "bad.png"
    good = io.BytesIO()
    Image.fromarray((RAMP * 255).astype(np.uint8)).save(good, format="PNG")
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        path.write_bytes(good.getvalue()[: len(good.getvalue()) // 2])
    elif kind == "text":
        path.write_text("not an image at all")
    elif kind == "huge":
        Image.new("1", (12_000, 9_000)).save(path)
    elif kind == "nan":
        path = tmp_path / "bad.tif"
        values = RAMP.astype(np.float32).copy()
        values[5, 5] = np.nan
        Image.fromarray(values).save(path)
    elif kind == "colour":
        rng = np.random.default_rng(0)
        Image.fromarray(rng.integers(0, 255, (100, 100, 3), dtype=np.uint8)).save(path)
    elif kind == "lateral":
        Image.fromarray(np.tile((RAMP * 255).astype(np.uint8), (2, 1))).save(path)
    elif kind == "flat":
        Image.new("L", (100, 100), 7).save(path)
    elif kind == "tiny":
        Image.fromarray((RAMP * 255).astype(np.uint8)[:8, :8]).save(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "dicom":
        path = tmp_path / "bad.dcm"
        path.write_bytes(dicom_film(tmp_path / "f.dcm").read_bytes()[:900])
    elif kind == "not dicom":
        path = tmp_path / "bad.dcm"
        path.write_bytes(b"hello")
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "not found"), ("empty", "empty"), ("truncated", "truncated or damaged"), ("text", "not an image"),
        ("huge", "100 megapixels"), ("nan", "NaN"), ("colour", "colour picture"), ("lateral", "--any-shape"),
        ("flat", "same value"), ("tiny", "too small"), ("folder", "a folder"), ("dicom", "bad.dcm"),
        ("not dicom", "unreadable DICOM"),
    ],
)  # fmt: skip
def test_bad_files_are_named(tmp_path, kind, message):
    path = make_bad(tmp_path, kind)
    with pytest.raises(UserError, match=message) as caught:
        read_film(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_samples():
    for name in SAMPLES:
        assert read_film(f"sample:{name}").working(256).shape == (1, 256, 256)
    with pytest.raises(UserError, match="Did you mean 'effusion'"):
        read_film("sample:efusion")


def test_what_a_kill_left_half_written_goes_and_what_is_being_written_stays(tmp_path):
    old, new = tmp_path / ".a.png.00000000.1.part", tmp_path / ".b.png.00000000.2.part"
    others = [tmp_path / "c.png", tmp_path / ".film.mkv.part", tmp_path / ".d.00000000.3.part" / "inside"]
    others[-1].parent.mkdir()
    for path in (old, new, *others):
        path.write_bytes(b"x")
    for path in (old, *others):
        os.utime(path, (0, 0))
    remove_leftovers(tmp_path)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {new, *others}


def test_what_a_killed_process_of_this_machine_left_is_removed_at_once(tmp_path):
    code = "import os, sys, pathlib; from cfkit.files import write_beside\n"
    code += "write_beside(pathlib.Path(sys.argv[1]), lambda part: (part.write_text('half'), os.kill(os.getpid(), 9)))"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "film.png")], check=False)
    (left,) = tmp_path.iterdir()
    other = left.with_name(left.name.replace(HOST, "00000000"))
    other.write_text("another machine may be at it")
    write_beside(tmp_path / "b.txt", lambda part: (part.write_text("b"), remove_leftovers(tmp_path)))
    assert sorted(tmp_path.iterdir()) == sorted([other, tmp_path / "b.txt"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"Rows": 60}, "more than one frame"),
        ({"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31, "Rows": 60}, "32 bits"),
    ],
)
def test_dicom_with_pixels_beyond_its_frame_or_wider_than_a_film_is_refused(tmp_path, changes, said):
    dataset = pydicom.dcmread(dicom_film(tmp_path / "f.dcm"))
    for name, value in changes.items():
        setattr(dataset, name, value)
    dataset.save_as(tmp_path / "g.dcm")
    with pytest.raises(UserError, match=said):
        read_film(tmp_path / "g.dcm")
