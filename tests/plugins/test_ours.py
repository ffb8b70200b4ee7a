"""The paper's editor against the public release, and what its users rely on."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

import cfkit
from cfkit import Intervention, UserError
from cfkit.diffusion import add_noise, invert
from cfkit.options import resolve
from cfkit_ours import OursOptions
from cfkit_ours.editor import OursEditor, spread
from cfkit_ours.losses import anchor, binary_cross_entropy, soft_kl

from ..golden_weights import golden, tiny_models

QUICK = {"num_inference_steps": 4, "epochs": 1, "skip": 0.0, "shrink": 0.0}


def tiny_editor(**options) -> OursEditor:
    models = tiny_models()
    bundle = SimpleNamespace(
        require=lambda *parts: [getattr(models, part) for part in parts], device=torch.device("cpu")
    )
    return OursEditor(bundle, resolve(OursOptions, options))


@pytest.mark.parametrize(("task", "present"), [("removal", False), ("synthesize", True)])
def test_the_released_loop_agrees(task, present):
    numbers = golden()
    editor = tiny_editor(preset="released", lr=1e-4, epochs=2, num_inference_steps=10)
    source = numbers["latent_mode"]
    noises = iter(numbers["blend_noise"].flatten(0, 1))
    tuned = editor.fine_tune(
        source,
        invert(editor.denoiser, source, editor.grid)[-1],
        images=numbers["image"],
        keep=numbers["bone_mask"],
        target=torch.tensor([1, 1]),
        present=torch.tensor([present, present]),
        kept=lambda step, alpha: add_noise(source, next(noises).expand(2, -1, -1, -1), alpha),
        tick=lambda: None,
    )
    for k in range(2):
        expected = numbers[f"{task}_{k}_losses"]
        ours = tuned["losses"][:, :, k].flatten(0, 1)
        assert ((ours - expected).abs() <= 0.02 * expected.abs() + 1e-7).all()
        latent = numbers[f"{task}_{k}_latent"][0]
        assert (tuned["passes"][-1][k] - latent).abs().mean() < 0.02 * latent.abs().mean()


def test_frames_are_spread_over_the_passes():
    assert spread(3, 6) == [0, 1, 2]
    assert spread(24, 6) == [3, 7, 11, 15, 19, 23]
    assert spread(24, 1) == [23]


def test_losses_in_closed_form():
    logits = torch.tensor([[0.3, -1.2, 2.0]])
    target = torch.tensor([1])
    p = 1 / (1 + math.exp(1.2))
    assert binary_cross_entropy(logits, target, torch.tensor([True])).item() == pytest.approx(-math.log(p), rel=1e-5)
    assert binary_cross_entropy(logits, target, torch.tensor([False])).item() == pytest.approx(
        -math.log(1 - p), rel=1e-5
    )
    soft = F.softmax(logits / 1.5, dim=1)[0].tolist()
    q = [soft[0], max(soft), soft[2]]
    q = [v / sum(q) for v in q]
    expected = 2.25 * sum(b * math.log(b / a) for a, b in zip(soft, q, strict=True))
    assert soft_kl(logits, target, torch.tensor([True]), 1.5).item() == pytest.approx(expected, rel=1e-4)
    assert anchor(logits, torch.zeros(1, 3), target).item() == pytest.approx((0.09 + 4.0) / 2, rel=1e-5)


@pytest.fixture(scope="module")
def films():
    from cfkit.data.dataset import virtual_split

    return torch.stack([virtual_split()[k].image for k in (0, 7, 10)])


INTERVENTIONS = [
    Intervention("Pleural Effusion", True),
    Intervention("Pleural Effusion", False),
    Intervention("Cardiomegaly", False),
]


def generators(seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_an_edit_is_what_the_contract_says(films):
    editor = cfkit.load_editor("ours", device="cpu", **QUICK)
    before = films.clone()
    steps = []
    edit = editor.edit(films, INTERVENTIONS, progress=lambda done, total: steps.append((done, total)))
    assert edit.images.shape == films.shape
    assert edit.images.dtype == torch.float32
    assert edit.images.min() >= 0.0 and edit.images.max() <= 1.0
    assert edit.frames.shape == (3, 1, 1, 256, 256)
    assert set(edit.mask.unique().tolist()) == {0.0, 1.0}
    assert steps[-1] == (8, 8) and len(steps) == 8
    assert torch.equal(films, before)
    assert not edit.images.requires_grad


def test_a_result_depends_neither_on_the_batch_nor_on_an_earlier_call(films):
    editor = cfkit.load_editor("ours", device="cpu", num_inference_steps=8, epochs=2, shrink=0.0, blending="noise")
    together = editor.edit(films, INTERVENTIONS, generators=generators([1, 2, 3])).images
    again = editor.edit(films, INTERVENTIONS, generators=generators([1, 2, 3])).images
    assert torch.equal(together, again)
    for k in range(3):
        alone = editor.edit(films[k : k + 1], INTERVENTIONS[k : k + 1], generators=generators([k + 1])).images
        assert (alone[0] - together[k]).abs().max() < 1e-4
    other = editor.edit(films, INTERVENTIONS, generators=generators([4, 5, 6])).images
    assert not torch.equal(other, together)


@pytest.mark.slow
def test_the_recommended_options_do_not_depend_on_the_batch_either(films):
    editor = cfkit.load_editor("ours", device="cpu")
    together = editor.edit(films, INTERVENTIONS).images
    for k in range(3):
        alone = editor.edit(films[k : k + 1], INTERVENTIONS[k : k + 1]).images
        assert (alone[0] - together[k]).abs().max() < 1e-4


def test_a_full_keep_mask_keeps_the_film_and_an_empty_one_does_not(films):
    editor = cfkit.load_editor("ours", device="cpu", shrink=0.0, num_inference_steps=10, epochs=1, lr=1e-3)
    kept = editor.edit(films, INTERVENTIONS, masks=torch.ones_like(films)).images
    free = editor.edit(films, INTERVENTIONS, masks=torch.zeros_like(films)).images
    assert (kept - films).abs().mean() < 0.3 * (free - films).abs().mean()


def test_devices_do_not_mix_forward_or_backward():
    """On the meta device any tensor left on the CPU raises, in both directions."""
    editor = cfkit.load_editor("ours", device="meta", **QUICK)
    z = torch.zeros(2, 8, 32, 32, device="meta")
    tuned = editor.fine_tune(
        z,
        z,
        images=torch.zeros(2, 1, 256, 256, device="meta"),
        keep=torch.zeros(2, 1, 32, 32, device="meta"),
        target=torch.zeros(2, dtype=torch.long, device="meta"),
        present=torch.zeros(2, dtype=torch.bool, device="meta"),
        kept=lambda step, alpha: z,
        tick=lambda: None,
    )
    assert tuned["passes"][-1].device.type == "meta"
    assert tuned["losses"].device.type == "meta"


@pytest.mark.parametrize(
    ("images", "interventions", "message"),
    [
        (torch.zeros(1, 3, 64, 64), INTERVENTIONS[:1], "N, 1, H, W"),
        (torch.full((1, 1, 64, 64), float("nan")), INTERVENTIONS[:1], "NaN"),
        (torch.full((1, 1, 64, 64), 2.0), INTERVENTIONS[:1], "outside"),
        (torch.zeros(2, 1, 64, 64), INTERVENTIONS[:1], "one a film"),
        (torch.zeros(1, 1, 64, 64), [Intervention("Hernia", True)], "Unknown finding 'Hernia'"),
        (torch.zeros(0, 1, 64, 64), [], "empty"),
    ],
)
def test_wrong_inputs_are_named(images, interventions, message):
    with pytest.raises(UserError, match=message):
        cfkit.load_editor("ours", device="cpu", **QUICK).edit(images, interventions)


@pytest.mark.parametrize("layers", ["residual", "residual+attention", "attention+input", "all"])
def test_every_choice_of_layers_runs(films, layers):
    editor = cfkit.load_editor("ours", device="cpu", layers=layers, num_inference_steps=1, epochs=1)
    assert editor.edit(films[:1], INTERVENTIONS[:1]).images.isfinite().all()


def test_presets_win_over_the_bundle_and_the_caller_over_both():
    paper = cfkit.load_editor("ours", device="cpu", preset="paper").options
    assert (paper.lr, paper.optimizer, paper.epochs, paper.layers) == (2e-5, "adamw", 2, "attention")
    released = cfkit.load_editor("ours", device="cpu", preset="released", epochs=7).options
    assert (released.lr, released.optimizer, released.epochs) == (1e-5, "adam", 7)
    recommended = cfkit.load_bundle("demo", device="cpu").recommended["ours"]
    assert cfkit.load_editor("ours", device="cpu").options.lr == recommended["lr"]


def test_fast_is_the_bundles_own_recipe_or_a_quarter_of_the_updates():
    demo = cfkit.load_editor("ours", device="cpu", speed="fast").options
    exact = cfkit.load_editor("ours", device="cpu").options
    assert exact.speed == "exact" and exact.decoder == "full"
    assert demo.decoder == "preview"
    paper = resolve(OursOptions, {"preset": "paper", "speed": "fast"})
    assert (paper.num_inference_steps, paper.update_every, paper.lr) == (25, 2, 8e-5)
    chosen = resolve(OursOptions, {"preset": "paper", "speed": "fast", "lr": 1e-5, "epochs": 3})
    assert (chosen.lr, chosen.epochs, chosen.num_inference_steps) == (1e-5, 3, 25)


def test_an_update_at_every_second_step_learns_at_half_of_them(films):
    settings = {**QUICK, "num_inference_steps": 5, "blending": "trajectory", "inversion_iterations": 0}
    edits = {
        every: cfkit.load_editor("ours", device="cpu", update_every=every, **settings).edit(
            films[:1], INTERVENTIONS[:1]
        )
        for every in (1, 2, 5)
    }
    assert [len(edits[every].record["films"][0]["losses"][0]) for every in (1, 2, 5)] == [5, 3, 1]
    first = [edit.record["films"][0]["losses"][0][0] for edit in edits.values()]
    assert first[0] == first[1] == first[2]
    assert not torch.equal(edits[1].images, edits[2].images)


def test_the_preview_leads_where_the_decoder_does(films):
    """Losses through the preview, and those through the decoder, on the same film: the one stands in for the other."""
    bundle = cfkit.load_bundle("demo", device="cpu")
    latents = bundle.autoencoder.encode(films)
    decoded, preview = bundle.autoencoder.decode(latents), bundle.preview(latents)
    assert preview.shape == (3, 1, 128, 128)
    small = F.interpolate(decoded, size=(128, 128), mode="bilinear", antialias=True)
    assert (small - preview).abs().mean() < 0.02
    assert (bundle.classifier(decoded) - bundle.classifier(preview)).abs().mean() < 1.0
    editor = cfkit.load_editor("ours", bundle=bundle, speed="fast")
    edit = editor.edit(films[:1], [Intervention("Pleural Effusion", True)])
    before, after = bundle.classifier(films[:1])[0, 2], bundle.classifier(edit.images)[0, 2]
    assert after > 0 > before


def test_a_bundle_without_a_preview_says_so():
    bundle = cfkit.load_bundle("demo", device="cpu")
    del bundle.config["parts"]["preview"]
    with pytest.raises(UserError, match="has no preview"):
        cfkit.load_editor("ours", bundle=bundle, speed="fast")
