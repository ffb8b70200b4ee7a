"""check_editor passes every method that ships, and finds each fault."""

import pytest
import torch
from diffusers import DDIMScheduler

import cfkit
from cfkit import Edit, UserError
from cfkit.bundles.kinds import build_part
from cfkit.bundles.text_to_image import RadEditParts
from cfkit.editor import check_inputs
from cfkit.testing import check_editor
from cfkit.train.denoiser import UNET
from cfkit.train.text_denoiser import SCHEDULE, WIDTH

QUICK = {
    "ours": {"epochs": 1, "num_inference_steps": 4, "skip": 0.5},
    "gifsplanation": {"frames": 3, "stop_shift": 30.0},
    "radedit": {"num_inference_steps": 4},
}


@pytest.fixture(scope="module")
def bundle():
    found = cfkit.load_bundle("demo", device="cpu")
    if found.radedit is None:  # an untrained one keeps the contract as well
        module = build_part("demo-text-to-image", {"width": WIDTH, "unet": UNET}).eval().requires_grad_(False)
        schedule = DDIMScheduler.from_config(SCHEDULE)
        parts = RadEditParts(module.denoiser, module.text_encoder, found.autoencoder, schedule)
        found.__dict__["radedit"] = parts
    return found


@pytest.mark.parametrize("method", sorted(QUICK))
def test_the_methods_that_ship_keep_the_contract(bundle, method):
    check_editor(cfkit.load_editor(method, bundle=bundle, **QUICK[method]), bundle)


class Good:
    """Adds noise of each film's own generator."""

    def __init__(self, bundle):
        self.findings = tuple(bundle.classifier.findings)
        self.bundle = bundle
        self.calls = 0

    def edit(self, images, interventions, *, masks=None, generators=None, progress=None):
        check_inputs(images, interventions, self.findings, masks=masks, generators=generators)
        self.calls += 1
        noise = torch.stack([torch.rand(images.shape[1:], generator=g) for g in generators])
        if progress:
            progress(1, 2)
            progress(2, 2)
        return self.finish(images, 0.5 * images + 0.5 * noise)

    def finish(self, images, edited):
        return Edit(images=edited)


FAULTS = {
    "images of shape": lambda self, images, edited: Edit(images=edited[..., :-1]),
    "float64": lambda self, images, edited: Edit(images=edited.double()),
    "NaN": lambda self, images, edited: Edit(images=edited / 0.0 * 0.0),
    "leave \\[0, 1\\]": lambda self, images, edited: Edit(images=edited + 1.0),
    "carry a gradient": lambda self, images, edited: Edit(images=edited.requires_grad_(True)),
    "changes the films": lambda self, images, edited: Edit(images=images.mul_(0.5)),
    "two calls": lambda self, images, edited: Edit(images=edited * 0.9**self.calls),
    "edited alone": lambda self, images, edited: Edit(images=edited * 0.9 ** len(images)),
    "frames of shape": lambda self, images, edited: Edit(images=edited, frames=edited),
    "mask of shape": lambda self, images, edited: Edit(images=edited, mask=edited[:1, 0]),
    "returns tuple": lambda self, images, edited: (edited,),
}


def test_a_good_editor_passes(bundle):
    check_editor(Good(bundle), bundle)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(bundle, fault):
    faulty = type("Faulty", (Good,), {"finish": FAULTS[fault]})
    with pytest.raises(AssertionError, match=fault):
        check_editor(faulty(bundle), bundle)


def test_an_editor_that_accepts_anything_is_found(bundle):
    class Careless(Good):
        def edit(self, images, interventions, **given):
            try:
                return super().edit(images, interventions, **given)
            except UserError:
                return Edit(images=images)

    with pytest.raises(AssertionError, match="an unknown finding is not refused"):
        check_editor(Careless(bundle), bundle)


def test_a_changed_model_is_found(bundle):
    class Trainer(Good):
        def finish(self, images, edited):
            next(self.bundle.classifier.parameters()).data.add_(1e-3)
            return Edit(images=edited)

    fresh = cfkit.load_bundle("demo", device="cpu")
    _ = fresh.classifier
    with pytest.raises(AssertionError, match="changes a model"):
        check_editor(Trainer(fresh), fresh)
