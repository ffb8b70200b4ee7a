"""The loops that the speed suite measures against compute what the originals compute."""

from types import SimpleNamespace

import pytest
import torch
from reference import plain_radedit, published_latent_shift, released_edit, released_inversion
from safetensors.torch import load_file

import cfkit
from cfkit import Intervention
from cfkit.anatomy import resize_mask
from cfkit.data.dataset import virtual_split
from cfkit.diffusion import ddim_grid, scheduler_grid

from ..golden_weights import golden, tiny_models
from ..plugins.test_gifsplanation import CASES, GOLDEN, GoldenClassifier


@pytest.mark.parametrize(("task", "present"), [("removal", False), ("synthesize", True)])
@pytest.mark.parametrize("film", [0, 1])
def test_the_released_loop(task, present, film):
    numbers, models = golden(), tiny_models()
    grid = ddim_grid(models.schedule.alphas_cumprod, 10)
    source = numbers["latent_mode"][film : film + 1]
    path = released_inversion(models.denoiser, source, grid)
    expected = numbers["inversion_trajectory"][:, film]
    for found, wanted in zip(path, expected, strict=True):
        assert (found[0] - wanted).abs().max() < 1e-3 * wanted.abs().max()
    before = {name: p.clone() for name, p in models.denoiser.named_parameters()}
    latent, losses = released_edit(
        models,
        source,
        path[-1],
        grid=grid,
        mask=numbers["bone_mask"][film : film + 1] if len(numbers["bone_mask"]) > 1 else numbers["bone_mask"],
        target=1,
        present=present,
        epochs=2,
        lr=1e-4,
        noises=(n.reshape(1, *source.shape[1:]) for n in numbers["blend_noise"].flatten(0, 1)),
    )
    wanted = numbers[f"{task}_{film}_losses"]
    assert ((losses - wanted).abs() <= 0.02 * wanted.abs() + 1e-7).all()
    wanted = numbers[f"{task}_{film}_latent"]
    assert (latent - wanted).abs().mean() < 0.02 * wanted.abs().mean()
    assert all(torch.equal(before[name], p) for name, p in models.denoiser.named_parameters())


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['image']}-{case['target']}")
def test_the_published_search(case):
    numbers = load_file(GOLDEN / "golden.safetensors")
    models = SimpleNamespace(autoencoder=tiny_models().autoencoder, classifier=GoldenClassifier(numbers))
    image = (numbers["image"][case["image"]].unsqueeze(0) + 1.0) / 2.0
    shifts, frames = published_latent_shift(models, image, case["target"], step=5.0, stop_pixels=0.6, stop_shift=3000.0)
    assert shifts == pytest.approx(case["lambdas"])
    ends = numbers[f"frames_{case['target']}_{case['image']}"]
    assert (2.0 * frames[[0, -1]] - 1.0 - ends).abs().max() < 1e-3 * ends.abs().max()


def test_the_plain_radedit_ends_where_the_editor_does():
    film = virtual_split()[0].image.unsqueeze(0)
    settings = {"num_inference_steps": 10, "skip": 0.3, "guidance_scale": 2.0, "restore_detail": False, "shrink": 0.0}
    editor = cfkit.load_editor("radedit", device="cpu", paste=False, eta=1.0, inversion_prompt="", **settings)
    edit = editor.edit(film, [Intervention("Pleural Effusion", True)], generators=[torch.Generator().manual_seed(5)])
    plain = plain_radedit(
        editor.parts,
        film,
        editor.prompt(Intervention("Pleural Effusion", True)),
        grid=scheduler_grid(editor.parts.schedule, 10),
        replayed=7,
        keep=resize_mask(edit.mask, (32, 32)),
        scale=2.0,
        seed=5,
    )
    assert (plain.clamp(0, 1) - edit.images).abs().max() < 1e-3
