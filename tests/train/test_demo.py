"""The training of the demo bundle, from nothing to a bundle that every method runs on."""

import csv

import numpy as np
import pytest
from PIL import Image

import cfkit
from cfkit import Intervention, UserError
from cfkit.images import sample_path
from cfkit.train.demo import train_demo
from cfkit.train.real import HELD_OUT, read_real, split_of

SHARP = (*HELD_OUT, *range(100, 106))  # patients with films at 512 px


@pytest.fixture(scope="module")
def nih(tmp_path_factory):
    """A folder in the layout of the real films, made of one sample: patients of every split."""
    folder = tmp_path_factory.mktemp("nih")
    film = Image.open(sample_path("normal")).convert("L")
    rows = []
    for patient in [*HELD_OUT, *range(100, 130)]:
        for size, place in ((512, "images"), (64, "images64")):
            if size == 512 and patient not in SHARP:
                continue
            (folder / place).mkdir(exist_ok=True)
            name = f"{place}/{patient:08d}_000.png"
            film.resize((size, size)).save(folder / name)
            finding = ("Effusion", "Cardiomegaly|Atelectasis", "No Finding")[patient % 3]
            rows.append({"file": name, "patient": patient, "view": "PA", "findings": finding})
    with (folder / "labels.csv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, ["file", "patient", "view", "findings"])
        table.writeheader()
        table.writerows(rows)
    assert {split_of(p, SHARP) for p in range(100, 130)} == {"train", "judge", "test"}
    return folder


@pytest.mark.slow
def test_a_quick_training_makes_a_bundle_and_goes_on_where_it_stopped(tmp_path, nih):
    lines: list[str] = []
    work, out = tmp_path / "work", tmp_path / "bundle"
    train_demo(work, nih, out, quick=True, report=lines.append)
    assert sum("step 2/2" in line for line in lines) == 8  # a line a part
    card = (out / "MODEL_CARD.md").read_text()
    assert "not** Cheff" in card and card.count("| segmenter | Dice") == 15
    bundle = cfkit.load_bundle(str(out), device="cpu")
    assert not bundle.missing()
    film = np.asarray(Image.open(sample_path("effusion")).convert("L").resize((256, 256)), np.float32) / 255
    import torch

    images = torch.from_numpy(film)[None, None]
    quick = {
        "ours": {"epochs": 1, "num_inference_steps": 2},
        "radedit": {"num_inference_steps": 3},
        "gifsplanation": {"frames": 2, "stop_shift": 10.0},
    }
    for method, options in quick.items():
        edit = cfkit.load_editor(method, bundle=bundle, **options).edit(images, [Intervention("Cardiomegaly", True)])
        assert edit.images.shape == images.shape
    weights = {path.name: path.read_bytes() for path in out.glob("*.safetensors")}
    lines.clear()
    train_demo(work, nih, out, quick=True, report=lines.append)
    assert not any(": step" in line for line in lines)
    assert weights == {path.name: path.read_bytes() for path in out.glob("*.safetensors")}
    # one part again, the others from the bundle
    (work / "quick" / "weights" / "judge.pt").unlink()
    again = tmp_path / "again"
    train_demo(work, nih, again, quick=True, only=["judge"], base=out, report=lines.append)
    assert weights == {path.name: path.read_bytes() for path in again.glob("*.safetensors")}


def test_no_patient_of_the_real_films_is_in_two_splits(nih):
    seen = {}
    for split in ("train", "judge", "test"):
        for small in (True, False):
            if (split, small) != ("judge", False):
                for patient in read_real(nih, split, small=small).patients.tolist():
                    assert seen.setdefault(patient, split) == split
    assert seen[100] == "train" and seen[HELD_OUT[0]] == "test"
    with pytest.raises(UserError, match="no film at 512 px for the split judge"):
        read_real(nih, "judge", small=False)


def test_what_cannot_be_trained_is_named(tmp_path, nih):
    with pytest.raises(UserError, match=r"holds no labels\.csv"):
        train_demo(tmp_path, tmp_path, tmp_path / "out")
    with pytest.raises(UserError, match=r"Unknown part 'juge'\. Did you mean 'judge'"):
        train_demo(tmp_path, nih, tmp_path / "out", only=["juge"])
