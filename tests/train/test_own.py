"""Training on data of one's own: every part, stopped and resumed, into a bundle that methods run on."""

import csv

import pytest
import torch

import cfkit
from cfkit import Intervention, UserError
from cfkit.data.dataset import open_dataset, virtual_split
from cfkit.data.films import FilmFolder
from cfkit.train.own import Recipe, is_held_out, train_part

pytest.importorskip("accelerate")
FEW = Recipe(steps=4, batch_size=2, size=64, save_every=2)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A folder with a table: twenty films of twenty patients."""
    from cfkit.bench.store import png_bytes

    folder, split = tmp_path_factory.mktemp("films"), virtual_split()
    with (folder / "labels.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["file", "patient", "findings"])
        for k in range(20):
            sample = split[4 * k + k % 4]
            (folder / f"{k}.png").write_bytes(png_bytes(sample.image))
            table.writerow(
                [f"{k}.png", f"p{k}", "|".join(f for f, there in sample.findings.items() if there) or "No Finding"]
            )
    return open_dataset(str(folder))


class Stops(FilmFolder):
    """Fails at its n-th film, as a training that is stopped."""

    def __init__(self, films, after):
        super().__init__(films.folder, films.layout, films.records)
        self.after = after

    def __getitem__(self, index):
        self.after -= 1
        if self.after < 0:
            raise KeyboardInterrupt
        return super().__getitem__(index)


def test_parts_are_trained_into_a_bundle_that_methods_run_on(films, tmp_path):
    lines = []
    for part in ("autoencoder", "denoiser", "classifier", "judge"):
        train_part(part, films, tmp_path / "mine", tmp_path / "work" / part, FEW, report=lines.append)
    train_part("segmenter", virtual_split(), tmp_path / "mine", tmp_path / "work" / "s", FEW, report=lines.append)
    told = (tmp_path / "mine" / "TRAINING.md").read_text()
    assert all(f"## {part}" in told for part in ("autoencoder", "denoiser", "classifier", "judge", "segmenter"))
    assert any("AUC" in line or "PSNR" in line for line in lines) and any("mean Dice" in line for line in lines)
    bundle = cfkit.load_bundle(tmp_path / "mine", device="cpu")
    assert bundle.missing() == [] and bundle.classifier.findings == ("Atelectasis", "Cardiomegaly", "Pleural Effusion")
    film = films[0].image[None, :, ::4, ::4].contiguous()
    editor = cfkit.load_editor("ours", bundle=bundle, epochs=1, num_inference_steps=2)
    edit = editor.edit(film, [Intervention("Cardiomegaly", True)], generators=[torch.Generator().manual_seed(0)])
    assert edit.images.shape == film.shape and edit.images.isfinite().all()


def test_a_training_that_was_stopped_ends_as_one_that_was_not(films, tmp_path):
    train_part("classifier", films, tmp_path / "whole", tmp_path / "w1", FEW, report=lambda line: None)
    with pytest.raises(KeyboardInterrupt):
        train_part(
            "classifier", Stops(films, 2 * 2 + 3), tmp_path / "cut", tmp_path / "w2", FEW, report=lambda line: None
        )
    assert not (tmp_path / "cut").exists()
    train_part("classifier", films, tmp_path / "cut", tmp_path / "w2", FEW, report=lambda line: None)
    a, b = (cfkit.load_bundle(tmp_path / name, device="cpu").classifier.state_dict() for name in ("whole", "cut"))
    assert all(torch.allclose(a[name], b[name], atol=1e-6) for name in a)


def test_no_held_out_patient_is_trained_on(films, tmp_path):
    seen = set()

    class Watched(FilmFolder):
        def __getitem__(self, index):
            seen.add(self.records[index].patient)
            return super().__getitem__(index)

    def stop(line):
        raise RuntimeError("enough")

    watched = Watched(films.folder, films.layout, films.records)
    with pytest.raises(RuntimeError, match="enough"):
        train_part("classifier", watched, tmp_path / "out", tmp_path / "work", FEW, report=stop)
    assert seen and not any(is_held_out(patient) for patient in seen)


def test_what_cannot_be_trained_is_named(films, tmp_path):
    def train(part, data, work="work", recipe=FEW):
        train_part(part, data, tmp_path / "out", tmp_path / work, recipe, report=lambda line: None)

    with pytest.raises(UserError, match="holds no autoencoder"):
        train("denoiser", films)
    with pytest.raises(UserError, match="has no structures"):
        train("segmenter", films)
    healthy = FilmFolder(films.folder, films.layout, [r for r in films.records if not any(r.findings.values())])
    with pytest.raises(UserError, match=r"too few|no finding is both"):
        train("classifier", healthy)
    train("classifier", films, recipe=Recipe(steps=1, batch_size=2, size=64))
    with pytest.raises(UserError, match="with other options"):
        train("classifier", films, recipe=Recipe(steps=1, batch_size=2, size=64, width=2))
