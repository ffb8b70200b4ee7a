"""RadEdit free of the public pipeline's faults, on tiny random parts."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDIMScheduler

from cfkit import Intervention, UserError
from cfkit.bundles.networks import VOCABULARY
from cfkit.bundles.radedit import SCHEDULE, StableAutoencoder
from cfkit.bundles.text_to_image import RadEditParts, TextDenoiser, WordContext
from cfkit.images import write_png
from cfkit.options import resolve
from cfkit_radedit import RadEditOptions
from cfkit_radedit.editor import RadEditEditor, feather

from ..radedit_files import WIDTH, tiny_unet, tiny_vae

EFFUSION = Intervention("Pleural Effusion", True)
SIZE = 64


class Counted(TextDenoiser):
    """Counts films, so that a doubled batch counts twice."""

    films = 0

    def forward(self, latents, timesteps, context):
        self.films += len(latents)
        return super().forward(latents, timesteps, context)


@pytest.fixture(scope="module")
def parts():
    torch.manual_seed(3)
    context = WordContext(WIDTH, VOCABULARY).eval()
    return RadEditParts(
        Counted(tiny_unet()).requires_grad_(False),
        context.requires_grad_(False),
        StableAutoencoder(tiny_vae()).requires_grad_(False),
        DDIMScheduler.from_config(SCHEDULE),
    )


def left_is_lung(images):
    """The left half is lung, the right half is spine, which is bone."""
    out = torch.zeros(len(images), 14, *images.shape[-2:])
    out[:, 4, :, : SIZE // 2] = 1.0
    out[:, 13, :, SIZE // 2 :] = 1.0
    return out


def make(parts, **options) -> RadEditEditor:
    models = {"radedit": parts, "segmenter": left_is_lung}
    bundle = SimpleNamespace(
        require=lambda *names: [models[name] for name in names], device=torch.device("cpu"), classifier=None
    )
    return RadEditEditor(bundle, resolve(RadEditOptions, {"num_inference_steps": 10, **options}))


@pytest.fixture(scope="module")
def films():
    return torch.rand(3, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def round_trip(parts, films):
    return parts.autoencoder.decode(parts.autoencoder.encode(films)).clamp(0.0, 1.0)


@pytest.mark.parametrize("steps", [1, 7, 10, 48])
@pytest.mark.parametrize("skip", [0.0, 0.3])
def test_equal_prompts_and_guidance_1_give_the_round_trip(parts, films, steps, skip):
    same = {"prompt": "film", "inversion_prompt": "film", "guidance_scale": 1.0, "bone_mask": False}
    edit = make(parts, num_inference_steps=steps, skip=skip, **same).edit(films, [EFFUSION] * 3)
    assert edit.images.isfinite().all()
    assert (edit.images - round_trip(parts, films)).abs().max() < 1e-5


def test_the_kept_region_is_the_round_trip_and_the_rest_is_not(parts, films):
    edit = make(parts, guidance_scale=30.0).edit(films, [EFFUSION] * 3)
    change = (edit.images - round_trip(parts, films)).abs()
    assert change[..., SIZE // 2 :].max() < 1.0 / 255.0
    assert change[..., : SIZE // 2].mean() > 0.002
    assert torch.equal(edit.mask.unique(), torch.tensor([0.0, 1.0]))


def test_kept_latents_end_as_the_factuals_own(parts, films):
    """Without pasting pixels: the region is blended at the timestep that each step leads to."""
    editor = make(parts, guidance_scale=30.0, paste=False)
    source = parts.autoencoder.encode(films)
    base, wanted = (parts.text_encoder([text] * 3) for text in ("", "Present Pleural Effusion"))
    keep = torch.zeros(3, 1, *source.shape[-2:])
    keep[..., source.shape[-1] // 2 :] = 1.0
    path, means = editor.invert(source, base, generators(0, 1, 2), lambda: None)
    end = editor.replay(path, means, base, wanted, keep, None, lambda: None)
    kept = keep.expand_as(source) > 0
    assert torch.equal(end[kept], source[kept])
    assert not torch.allclose(end[~kept], source[~kept], atol=1e-2)


def test_masks_decide(parts, films, tmp_path):
    def images(masks=None, **options):
        edit = make(parts, guidance_scale=30.0, **options).edit(films, [EFFUSION] * 3, masks=masks)
        return edit.images

    trip = round_trip(parts, films)
    bones = images()
    free = images(masks=torch.zeros_like(films))
    assert not torch.allclose(bones, free, atol=1e-3)
    assert torch.equal(free, images(bone_mask=False))
    assert (images(masks=torch.ones_like(films)) - trip).abs().max() < 1e-4
    # nothing is guided outside the edit mask, and an unguided replay gives the factual back
    nowhere = images(bone_mask=False, edit="Heart")
    assert (nowhere - trip).abs().max() < 1e-3
    lung = images(bone_mask=False, edit="Left Lung, Right Lung")
    assert not torch.allclose(lung, trip, atol=1e-3)
    mask = torch.zeros(SIZE, SIZE, dtype=torch.uint8)
    mask[:, : SIZE // 2] = 255
    write_png(tmp_path / "mask.png", mask.numpy())
    drawn = images(bone_mask=False, edit_mask=str(tmp_path / "mask.png"))
    assert (drawn - lung).abs().mean() < 0.1 * (lung - trip).abs().mean()


def test_only_replayed_steps_are_predicted(parts, films):
    parts.denoiser.films = 0
    make(parts, num_inference_steps=20, skip=0.3).edit(films[:1], [EFFUSION])
    assert parts.denoiser.films == 14 * (1 + 2)  # once to invert, twice to guide


def test_a_result_depends_on_its_generator_alone(parts, films):
    editor = make(parts)
    together = editor.edit(films, [EFFUSION] * 3, generators=generators(1, 2, 3)).images
    assert torch.equal(together, editor.edit(films, [EFFUSION] * 3, generators=generators(1, 2, 3)).images)
    for k in range(3):
        alone = editor.edit(films[k : k + 1], [EFFUSION], generators=generators(k + 1)).images
        assert (alone[0] - together[k]).abs().max() < 1e-4
    other = editor.edit(films, [EFFUSION] * 3, generators=generators(4, 5, 6)).images
    assert not torch.equal(other, together)


def test_prompts(parts):
    editor = make(parts)
    assert editor.prompt(EFFUSION) == "Present Pleural Effusion"
    assert editor.prompt(replace(EFFUSION, present=False)) == "No apparent Pleural Effusion"
    assert make(parts, prompt="Present severe left {x}").prompt(EFFUSION) == "Present severe left {x}"


def test_devices_do_not_mix(parts):
    meta = RadEditParts(
        TextDenoiser(tiny_unet()).to("meta"),
        lambda prompts: torch.zeros(len(prompts), 5, WIDTH, device="meta"),
        StableAutoencoder(tiny_vae()).to("meta"),
        parts.schedule,
    )
    editor = make(meta, edit="Heart")
    source = torch.zeros(2, 4, 8, 8, device="meta")
    context = meta.text_encoder(["", ""])
    path, means = editor.invert(source, context, generators(0, 1), lambda: None)
    mask = torch.zeros(2, 1, 8, 8, device="meta")
    assert editor.replay(path, means, context, context, mask, mask, lambda: None).device.type == "meta"


def test_a_feathered_mask_is_whole_inside_and_soft_outside():
    keep = torch.zeros(1, 1, 16, 16)
    keep[..., :8] = 1.0
    soft = feather(keep)
    assert torch.equal(soft[..., :8], keep[..., :8])
    assert (soft[0, 0, 8, 7:13].diff() < 0).all() and soft[0, 0, 8, 13:].max() == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edit": "Liver"}, "Unknown structure 'Liver'"),
        ({"edit_mask": "nowhere.png"}, "nowhere.png: not found"),
        ({"num_inference_steps": 0}, "--num-inference-steps: 0 is out of range"),
    ],
)
def test_wrong_options_are_named(parts, films, options, message):
    with pytest.raises(UserError, match=message):
        make(parts, **options).edit(films, [EFFUSION] * 3)
