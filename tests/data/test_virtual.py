"""Virtual patients: deterministic, exact pairs, no patient in two splits."""

import csv
import hashlib

import numpy as np
import pytest
from PIL import Image

from cfkit import UserError
from cfkit.anatomy import STRUCTURES
from cfkit.data.dataset import virtual_split
from cfkit.data.virtual.patient import FINDINGS, draw_patient
from cfkit.data.virtual.render import render
from cfkit.data.virtual.volume import load_anatomy, read_ct
from cfkit.data.virtual.write import write_patients
from cfkit.train.films import SPLITS
from cfkit.train.split import COUNT, FIRST


@pytest.fixture(scope="module")
def films():
    return render(load_anatomy(), 40_005, size=128)


def test_a_seed_is_a_patient(films):
    again = render(load_anatomy(), 40_005, size=128)
    assert again.patient == films.patient
    assert all(np.array_equal(again.films[f], films.films[f]) for f in films.films)
    assert not np.array_equal(render(load_anatomy(), 40_006, size=128).films[""], films.films[""])


def test_a_pair_differs_where_the_disease_is_and_nowhere_else(films):
    lungs = films.structures[""][4] | films.structures[""][5]
    for finding in FINDINGS:
        change = films.films[finding] - films.films[""]
        assert np.abs(change).max() > 0.05
        difference = films.difference(finding)
        assert 0.002 < difference.mean() < 0.5
        # what brightens lies over a lung; local contrast processing may reach a little further
        grown = np.asarray(Image.fromarray(lungs).resize((128, 128))) | lungs
        assert (change[grown].clip(0).sum()) > 0.7 * change.clip(0).sum()


def test_structures_are_where_they_belong(films):
    masks = dict(zip(STRUCTURES, films.structures[""], strict=True))
    centre = {name: np.argwhere(mask).mean(0) for name, mask in masks.items() if mask.any()}
    assert set(centre) == set(STRUCTURES)
    assert centre["Left Lung"][1] > centre["Right Lung"][1]  # the patient's left is on the right of a film
    assert centre["Left Clavicle"][1] > centre["Right Clavicle"][1]
    assert centre["Left Clavicle"][0] < centre["Heart"][0] < centre["Facies Diaphragmatica"][0]
    assert abs(centre["Spine"][1] - 64) < 20
    assert films.structures["Cardiomegaly"][8].sum() > 1.15 * masks["Heart"].sum()


def test_fluid_is_on_the_drawn_side():
    anatomy = load_anatomy()
    sides = set()
    for seed in range(41_000, 41_040):
        side = draw_patient(seed).diseases[2].side
        if side in sides or side == "both":
            continue
        sides.add(side)
        films = render(anatomy, seed, size=128)
        change = (films.films["Pleural Effusion"] - films.films[""]).clip(0)
        mask = films.structures[""]
        left, right = change[mask[4] & ~mask[5]].sum(), change[mask[5] & ~mask[4]].sum()
        assert (left > right) == (side == "left")
        if sides == {"left", "right"}:
            return
    pytest.fail("both sides are drawn")


def test_no_two_splits_share_a_patient():
    spans = [range(a, a + n) for a, n in SPLITS.values()] + [range(FIRST, FIRST + COUNT)]
    assert sum(len(s) for s in spans) == len({seed for s in spans for seed in s})


def test_the_shipped_split_is_what_the_renderer_makes():
    split = virtual_split()
    assert len(split) == 256 and len({s.patient for s in split}) == 64
    sample = split[4 * 3 + 2]
    films = render(load_anatomy(), FIRST + 3)
    expected = films.films["Cardiomegaly"]
    assert np.abs(sample.image[0].numpy() - expected).max() < 1 / 255
    assert sample.findings == {"Atelectasis": False, "Cardiomegaly": True, "Pleural Effusion": False}
    assert np.abs(sample.counterfactuals["Cardiomegaly"][0].numpy() - films.films[""]).max() < 1 / 255
    assert np.array_equal(sample.structures.numpy(), films.structures["Cardiomegaly"])


def test_patients_as_files(tmp_path):
    write_patients(load_anatomy(), tmp_path, patients=2, seed=42_000, size=64)
    rows = list(csv.DictReader((tmp_path / "films.csv").open()))
    assert len(rows) == 8
    for row in rows:
        assert Image.open(tmp_path / row["file"]).size == (64, 64)
        assert np.asarray(Image.open(tmp_path / row["structures"])).max() < 1 << 14
    digest = hashlib.sha256((tmp_path / rows[0]["file"]).read_bytes()).hexdigest()
    stamp = (tmp_path / rows[0]["file"]).stat().st_mtime_ns
    write_patients(load_anatomy(), tmp_path, patients=3, seed=42_000, size=64)
    assert (tmp_path / rows[0]["file"]).stat().st_mtime_ns == stamp
    assert hashlib.sha256((tmp_path / rows[0]["file"]).read_bytes()).hexdigest() == digest
    assert len(list(csv.DictReader((tmp_path / "films.csv").open()))) == 12


def test_a_ct_of_one_s_own(tmp_path):
    import nibabel

    anatomy = load_anatomy()
    hounsfield = (anatomy.attenuation * 1000 - 1000)[::-2, ::-1].transpose(1, 2, 0)[::-1][::2, ::2]
    labels = anatomy.labels[::-2, ::-1].transpose(1, 2, 0)[::-1][::2, ::2]
    affine = np.diag([-3.0, 5.0, 4.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(hounsfield.astype(np.int16), affine), tmp_path / "ct.nii.gz")
    nibabel.save(nibabel.Nifti1Image(labels, affine), tmp_path / "labels.nii.gz")
    films = render(load_anatomy(tmp_path / "ct.nii.gz", tmp_path / "labels.nii.gz"), 7, size=64)
    assert films.films[""].std() > 0.1
    nibabel.save(nibabel.Nifti1Image(labels * 0, affine), tmp_path / "none.nii.gz")
    with pytest.raises(UserError, match="no lung"):
        read_ct(tmp_path / "ct.nii.gz", tmp_path / "none.nii.gz")
    with pytest.raises(UserError, match="not a readable NIfTI"):
        read_ct(tmp_path / "missing.nii.gz", tmp_path / "labels.nii.gz")
