"""A bundle of published files computes what the originals do, and tells what it lacks."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import cfkit
from cfkit import UserError
from cfkit.bundles.importer import Sources, import_cheff

from ..golden_weights import autoencoder_checkpoint, draw, golden, layout, unet_checkpoint
from ..radedit_files import write_radedit

CHEXZERO = Path(__file__).parents[1] / "golden" / "chexzero_tiny"


def relative(a, b):
    return float((a - b).abs().max() / b.abs().max())


LABELS = "model.diffusion_model.label_emb.weight"


def text_checkpoint():
    block = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.norm1.weight"
    return with_weight(block)


def with_weight(name):
    """The unconditional U-Net's checkpoint with one weight too many."""
    checkpoint = unet_checkpoint()
    return {**checkpoint, "state_dict": {**checkpoint["state_dict"], name: torch.ones(1)}}


def chexzero_checkpoint():
    layout = json.loads((CHEXZERO / "layout.json").read_text())["layout"]
    state = {name: draw(name, shape) if shape else torch.tensor(2.5) for name, shape in layout.items()}
    return state | {"input_resolution": torch.tensor(64), "context_length": torch.tensor(77)}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    pytest.importorskip("open_clip")
    folder = tmp_path_factory.mktemp("files")
    torch.save(unet_checkpoint(), folder / "unet.pt")
    torch.save(autoencoder_checkpoint(), folder / "autoencoder.pt")
    torch.save(chexzero_checkpoint(), folder / "chexzero.pt")
    write_radedit(folder / "radedit")
    lines = []
    sources = Sources(
        unet=folder / "unet.pt",
        head_channels=16,
        autoencoder=folder / "autoencoder.pt",
        clip=folder / "chexzero.pt",
        radedit=folder / "radedit",
    )
    import_cheff(sources, folder / "cheff", report=lines.append)
    assert any(line.startswith("segmenter: missing (PSPNet") for line in lines)
    assert not any(line.startswith("clip: missing") for line in lines)
    assert all(path.suffix in (".toml", ".safetensors") for path in (folder / "cheff").iterdir() if path.is_file())
    return cfkit.load_bundle(folder / "cheff", device="cpu")


@torch.no_grad()
def test_cheff_agrees_with_the_original(bundle):
    numbers = golden()
    assert relative(bundle.denoiser(numbers["unet_in"], numbers["unet_t"]), numbers["unet_out"]) < 1e-4
    assert relative(bundle.autoencoder.encode(numbers["image"]), numbers["latent_mode"]) < 1e-4
    decoded = bundle.autoencoder.decode(numbers["latent_mode"]) * 2 - 1
    assert (
        relative(decoded.expand(-1, 3, -1, -1), numbers["decoded"].mean(1, keepdim=True).expand(-1, 3, -1, -1)) < 1e-4
    )
    assert relative(bundle.schedule.alphas_cumprod, numbers["alphas_cumprod"]) < 1e-6


@torch.no_grad()
def test_chexzero_agrees_with_the_original(bundle):
    numbers = load_file(CHEXZERO / "golden.safetensors")
    prompts = json.loads((CHEXZERO / "layout.json").read_text())["prompts"]
    assert torch.equal(bundle.clip.tokens(prompts), numbers["tokens"])
    image, text = bundle.clip.image_features(numbers["image"]), bundle.clip.text_features(prompts)
    assert relative(bundle.clip.pooled(numbers["image"]), numbers["image_features"]) < 1e-4
    assert relative(text, torch.nn.functional.normalize(numbers["text_features"], dim=-1)) < 1e-4
    cosine = image @ text.T  # (3, 6): finding, no finding, three times
    assert (cosine - numbers["cosine"]).abs().max() < 1e-4
    assert (cosine.view(3, 3, 2).softmax(dim=-1)[..., 0] - numbers["probability"]).abs().max() < 1e-4
    assert torch.equal(bundle.features(numbers["image"]), bundle.clip.pooled(numbers["image"]))


def test_radedit_is_served(bundle):
    assert bundle.radedit is not None and bundle.missing() == []
    assert bundle.classifier is None and bundle.describe("classifier") == "absent"
    with pytest.raises(UserError, match="has no classifier"):
        bundle.require("classifier")


@pytest.mark.parametrize(
    ("part", "write", "message"),
    [
        ("unet", lambda p: torch.save(autoencoder_checkpoint(), p), "not a latent-diffusion U-Net"),
        ("unet", lambda p: torch.save(text_checkpoint(), p), "--text-to-image takes it"),
        ("unet", lambda p: torch.save(with_weight(LABELS), p), "label_emb.+ has no place"),
        ("unet", lambda p: torch.save({"state_dict": torch.ones(1)}, p), "no weights by name"),
        ("unet", lambda p: torch.save({1: torch.ones(1)}, p), "no weights by name"),
        ("autoencoder", lambda p: torch.save(unet_checkpoint(), p), "not a latent-diffusion autoencoder"),
        ("clip", lambda p: torch.save(unet_checkpoint(), p), "not a CLIP with a vision transformer"),
        ("segmenter", lambda p: torch.save({"a": torch.ones(1)}, p), "not a PSPNet of 14 structures"),
        ("inception", lambda p: torch.save({"a": torch.ones(1)}, p), "not a Inception-v3"),
        ("classifier", lambda p: p.write_bytes(b"PK half"), "not a checkpoint, or half of one"),
        ("radedit", lambda p: p.mkdir(), "config.json: not found"),
    ],
)
def test_a_file_of_something_else_is_named_and_nothing_is_written(tmp_path, part, write, message):
    pytest.importorskip("torchxrayvision")
    path = tmp_path / "file.pt"
    write(path)
    with pytest.raises(UserError, match=message) as caught:
        import_cheff(Sources(**{part: path}), tmp_path / "out", report=lambda line: None)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]


def test_heads_that_do_not_divide_the_attention_are_named(tmp_path):
    torch.save(unet_checkpoint(), tmp_path / "u.pt")
    with pytest.raises(UserError, match="--head-channels 48"):
        import_cheff(Sources(unet=tmp_path / "u.pt", head_channels=48), tmp_path / "out", report=lambda line: None)


def test_what_is_not_what_it_was_is_refused(bundle, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(bundle.folder, copy)
    vocabulary = copy / "radedit" / "text_encoder" / "vocab.txt"
    vocabulary.write_text(vocabulary.read_text() + "more\n")
    with pytest.raises(UserError, match="radedit: differs from the sha256"):
        assert cfkit.load_bundle(copy, device="cpu").radedit
    shutil.rmtree(copy / "radedit")
    assert cfkit.load_bundle(copy, device="cpu").missing() == ["radedit (radedit)"]


def test_kinds_and_folders_that_will_not_do(tmp_path):
    with pytest.raises(UserError, match="give at least one file"):
        import_cheff(Sources(), tmp_path / "out")
    with pytest.raises(UserError, match=r"Unknown kind 'resnet'\. Did you mean 'resnet152'"):
        import_cheff(Sources(classifier=tmp_path, classifier_kind="resnet"), tmp_path / "out")
    with pytest.raises(UserError, match="already there"):
        import_cheff(Sources(unet=tmp_path / "u.pt"), tmp_path)


FULL = """
import resource, sys, torch
from pathlib import Path
from cfkit.bundles.importer import Sources, import_cheff
import cfkit
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
folder = Path(sys.argv[1])
if sys.argv[2] == "import":
    import_cheff(Sources(unet=folder / "unet.pt", autoencoder=folder / "autoencoder.pt"), folder / "cheff")
else:
    bundle = cfkit.load_bundle(folder / "cheff", device="cpu")
    with torch.no_grad():
        noise = bundle.denoiser(torch.randn(1, 3, 64, 64), torch.tensor([500]))
        film = bundle.autoencoder.decode(bundle.autoencoder.encode(torch.rand(1, 1, 256, 256)))
    assert noise.shape == (1, 3, 64, 64) and noise.isfinite().all() and film.shape == (1, 1, 256, 256)
    print(sum(p.numel() for p in bundle.denoiser.parameters()))
print(peak())
"""


def full_size_files(folder):
    """Random weights in the released layout at full width: that of the golden numbers, each width scaled up."""

    def drawn(layout, times):
        shapes = {name: [d * times if d >= 32 else d for d in shape] for name, shape in layout.items()}
        return {
            name: torch.randn(shape) / max(torch.Size(shape[1:]).numel(), 1) ** 0.5 for name, shape in shapes.items()
        }

    unet = {f"model.{name}": value for name, value in drawn(layout()["unet"], 7).items()}
    torch.save({"state_dict": unet, "epoch": 1}, folder / "unet.pt")
    del unet
    torch.save({"state_dict": drawn(layout()["autoencoder"], 4)}, folder / "autoencoder.pt")


@pytest.mark.slow
def test_the_full_size_is_imported_and_runs_within_4_gib(tmp_path):
    full_size_files(tmp_path)
    for step in ("import", "run"):
        done = subprocess.run([sys.executable, "-c", FULL, tmp_path, step], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert float(done.stdout.split()[-1]) < 4.0
    assert int(done.stdout.split()[0]) > 270e6
