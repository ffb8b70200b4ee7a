"""Latent shift against the public package, and what its users rely on."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

import cfkit
from cfkit import Intervention, UserError
from cfkit.data.dataset import virtual_split
from cfkit.options import resolve
from cfkit_gifsplanation import GifsplanationOptions
from cfkit_gifsplanation.editor import GifsplanationEditor

from ..golden_weights import tiny_models

GOLDEN = Path(__file__).parents[1] / "golden" / "latentshift"
CASES = json.loads((GOLDEN / "cases.json").read_text())["cases"]


class GoldenClassifier(nn.Module):
    """The classifier of the golden numbers: it takes films in [-1, 1]."""

    findings = ("A", "B", "C", "D", "E")

    def __init__(self, numbers: dict) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 16, 3, 2), nn.Linear(16, 5)
        prefix = "classifier."
        self.load_state_dict({k.removeprefix(prefix): v for k, v in numbers.items() if k.startswith(prefix)})
        self.requires_grad_(False)

    def forward(self, images):
        x = F.relu(self.conv2(F.relu(self.conv1(2.0 * images - 1.0))))
        return self.fc(x.mean((2, 3)))


@pytest.fixture(scope="module")
def numbers():
    return load_file(GOLDEN / "golden.safetensors")


@pytest.fixture(scope="module")
def golden_editor(numbers):
    models = SimpleNamespace(autoencoder=tiny_models().autoencoder, classifier=GoldenClassifier(numbers))
    bundle = SimpleNamespace(
        require=lambda *parts: [getattr(models, part) for part in parts], device=torch.device("cpu")
    )
    return GifsplanationEditor(bundle, resolve(GifsplanationOptions, {"step": 5.0, "stop_pixels": 0.6}))


def test_the_public_search_and_sweep_agree(golden_editor, numbers):
    """All nine cases in one batch, against the package's one film at a time."""
    images = torch.stack([(numbers["image"][case["image"]] + 1.0) / 2.0 for case in CASES])
    target = torch.tensor([case["target"] for case in CASES])
    absent = torch.zeros(len(CASES), dtype=torch.bool)
    with torch.no_grad():
        line = golden_editor.find_line(images, target, absent)
        bounds = golden_editor.search(line).bounds
        assert bounds == [case["lambdas"][0] for case in CASES]
        for k, case in enumerate(CASES):
            rows = torch.full((10,), k)
            shifts = torch.tensor(case["lambdas"], dtype=torch.float64)
            frames, predictions = golden_editor.decode_shifted(line, rows, shifts)
            assert (predictions - torch.tensor(case["preds"])).abs().max() < 1e-3
            frames = 2.0 * frames - 1.0
            ends = numbers[f"frames_{case['target']}_{case['image']}"]
            assert (frames[[0, -1]] - ends).abs().max() < 1e-3 * ends.abs().max()
            heatmap = (frames[1:] - frames[:-1]).abs().mean(0)
            expected = numbers[f"heatmap_{case['target']}_{case['image']}"]
            assert (heatmap - expected).abs().max() < 1e-3 * expected.max()


def test_adding_is_the_mirror_of_removing(golden_editor, numbers):
    """On a classifier whose logits are turned over, adding is the search of removing."""
    images = (numbers["image"] + 1.0) / 2.0
    target = torch.tensor([0, 1, 4])
    mirrored = SimpleNamespace(
        require=lambda *parts: [
            golden_editor.autoencoder,
            lambda x: -golden_editor.classifier(x),
        ],
        device=torch.device("cpu"),
    )
    other = GifsplanationEditor(mirrored, golden_editor.options)
    with torch.no_grad():
        removing = golden_editor.search(golden_editor.find_line(images, target, torch.zeros(3, dtype=torch.bool)))
        adding = other.search(other.find_line(images, target, torch.ones(3, dtype=torch.bool)))
    assert removing.bounds == adding.bounds


@pytest.fixture(scope="module")
def films():
    return torch.stack([virtual_split()[k].image for k in (0, 3, 6)])


INTERVENTIONS = [
    Intervention("Cardiomegaly", True),
    Intervention("Pleural Effusion", False),
    Intervention("Cardiomegaly", False),
]


def test_both_directions_move_the_prediction(films):
    edit = cfkit.load_editor("gifsplanation", device="cpu").edit(films, INTERVENTIONS)
    assert edit.frames.shape == (3, 10, 1, 256, 256)
    assert torch.equal(edit.images, edit.frames[:, -1])
    for intervention, said in zip(INTERVENTIONS, edit.record["films"], strict=True):
        predictions, lambdas = said["predictions"], said["lambdas"]
        assert (predictions[-1] > predictions[0]) == intervention.present
        assert (lambdas[-1] > 0.0) == intervention.present and lambdas[0] == 0.0


def test_stop_rules_decide_how_far_it_goes(films):
    def bounds(**options):
        edit = cfkit.load_editor("gifsplanation", device="cpu", frames=2, **options).edit(films, INTERVENTIONS)
        return [abs(said["lambdas"][-1]) for said in edit.record["films"]]

    assert bounds(stop_shift=0.0) == [0.0, 0.0, 0.0]
    loose = {"stop_turning": False, "stop_probability": 0.0, "stop_difference": 1.0, "stop_pixels": 1e9}
    assert bounds(**loose, stop_shift=30.0, step=10.0) == [34.0, 34.0, 34.0]  # 0, 10, 21, 34


def test_a_keep_mask_keeps_the_factual(films):
    masks = torch.zeros_like(films)
    masks[:, :, :, :128] = 1.0
    edit = cfkit.load_editor("gifsplanation", device="cpu").edit(films, INTERVENTIONS, masks=masks)
    assert torch.equal(edit.images[..., :128], films[..., :128])
    assert not torch.equal(edit.images[..., 128:], films[..., 128:])


def test_devices_do_not_mix_forward_or_backward():
    editor = cfkit.load_editor("gifsplanation", device="meta")
    images = torch.zeros(2, 1, 256, 256, device="meta")
    target = torch.zeros(2, dtype=torch.long, device="meta")
    present = torch.zeros(2, dtype=torch.bool, device="meta")
    line = editor.find_line(images, target, present)
    frames, predictions = editor.decode_shifted(line, torch.zeros(5, dtype=torch.long, device="meta"), torch.zeros(5))
    assert frames.device.type == predictions.device.type == "meta"


def test_wrong_options_are_named():
    with pytest.raises(UserError, match="--frames: 1 is out of range"):
        cfkit.load_editor("gifsplanation", device="cpu", frames=1)


def test_a_preview_goes_ahead_and_the_decoder_decides(films):
    exact = cfkit.load_editor("gifsplanation", device="cpu")
    fast = cfkit.load_editor("gifsplanation", bundle=exact.bundle, speed="fast")
    assert fast.options.search == "preview"
    wanted = [Intervention("Pleural Effusion", True)] * len(films)
    one, other = exact.edit(films, wanted), fast.edit(films, wanted)
    same = 0
    for a, b in zip(one.record["films"], other.record["films"], strict=True):
        steps = abs(a["lambdas"][-1] - b["lambdas"][-1])
        assert steps <= 0.1 * abs(a["lambdas"][-1]) + 2 * exact.options.step
        same += steps == 0
    assert same >= len(films) // 2
