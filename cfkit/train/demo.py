"""Trains and exports the demo bundle, from the first virtual patient to its model card.

Every stage leaves a file in the work folder and is skipped when that is there, so the command can
be stopped and given again at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..bundles.bundle import load_bundle
from ..bundles.cheff import SCHEDULE, Denoiser
from ..bundles.manifest import bundle_toml, save_part
from ..bundles.networks import Autoencoder
from ..errors import UserError, unknown
from ..files import write_beside
from ..origin import origin
from . import autoencoder, classifiers, denoiser, guidance, preview, text_denoiser
from .evaluate import evaluate, table
from .films import CHUNK, SPLITS, read_split, render_split
from .real import HELD_OUT, read_real

Report = Callable[[str], None]
RECOMMENDED: dict[str, dict[str, Any]] = {
    "ours": {
        "epochs": 24,
        "num_inference_steps": 6,
        "skip": 0.65,
        "lr": 1e-3,
        "lr_decay": "cosine",
        "blending": "trajectory",
        "inversion_iterations": 3,
        "reconstruction": "roundtrip",
        "reconstruction_weight": 8.0,
        "restore_detail": True,
        "shrink": 0.02,
        "fast": {"decoder": "preview"},
    },
    "gifsplanation": {"restore_detail": True, "shrink": 0.015, "fast": {"search": "preview"}},
    "radedit": {"num_inference_steps": 50, "guidance_scale": 2.0, "restore_detail": True, "shrink": 0.015},
}


def train_demo(
    work: Path,
    nih: Path,
    out: Path,
    *,
    quick: bool = False,
    only: Sequence[str] = (),
    base: str | Path = "demo",
    report: Report = print,
) -> None:
    """Runs every stage, writes the bundle and its model card.

    Args:
        work: Folder for rendered films and checkpoints; some 600 MB.
        nih: Folder of real films with `labels.csv`, `images/` and `images64/`.
        out: Folder of the bundle.
        quick: A few films and steps of everything, to prove that it runs.
        only: Parts to train; the others are taken from `base`. All where empty.
        base: A bundle.

    Raises:
        UserError: A folder or a part that is not there.
    """
    work = work / "quick" if quick else work  # what is left there of a quick one is of no use to the other
    for name in only:
        if name not in CLASSES:
            raise UserError(unknown("part", name, CLASSES))
    if not (nih / "labels.csv").is_file():
        raise UserError(f"--nih {nih}: holds no labels.csv; give the folder of NIH films")
    films, weights = work / "films", work / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        render_split(split, films, limit=CHUNK if quick else None, report=report)
    few = {"steps": 2} if quick else {}

    kept = load_bundle(base, device="cpu") if only else None

    def stage(name: str, make: Callable[[Path], nn.Module]) -> nn.Module:
        """A trained part; from its checkpoint where that is complete, or from `base`."""
        module = kept.module(name) if kept is not None and name not in only else make(weights / f"{name}.pt")
        if module is None:
            raise UserError(f"--only: bundle '{base}' has no {name}; train it too")
        return module.eval().requires_grad_(False)

    stack, masks = read_split("train", films)
    sharp = read_real(nih, "train", small=False)
    small = {split: read_real(nih, split, small=True) for split in ("train", "judge")}
    size = stack.shape[-1]
    parts: dict[str, nn.Module] = {}
    parts["autoencoder"] = stage(
        "autoencoder",
        lambda path: autoencoder.train_autoencoder(
            stack.reshape(-1, size, size), sharp.films, path=path, report=report, **few
        ),
    )
    encoder = parts["autoencoder"]
    assert isinstance(encoder, Autoencoder)
    views = 2 if quick else 32
    latents = _latents(encoder, stack, sharp.films, work / "latents.npz", views=views)
    parts["denoiser"] = stage(
        "denoiser", lambda path: denoiser.train_denoiser(latents[0], latents[1], path=path, report=report, **few)
    )
    start = parts["denoiser"]
    assert isinstance(start, Denoiser)
    texts = _texts(len(stack), sharp.findings, views=views)
    parts["radedit"] = stage(
        "radedit",
        lambda path: text_denoiser.train_text_denoiser(
            latents[0], latents[1], texts[0], texts[1], start, path=path, report=report, **few
        ),
    )
    reduced = classifiers.reduce_films(stack)
    own = classifiers.Films(reduced, small["train"], sharp)
    other = classifiers.Films(classifiers.reduce_films(read_split("judge", films)[0]), small["judge"])
    parts["classifier"] = stage(
        "classifier", lambda path: guidance.train_classifier(own, path=path, report=report, **few)
    )
    parts["judge"] = stage("judge", lambda path: classifiers.train_judge(other, path=path, report=report, **few))
    parts["clip"] = stage("clip", lambda path: classifiers.train_clip(other, path=path, report=report, **few))
    parts["segmenter"] = stage(
        "segmenter",
        lambda path: classifiers.train_segmenter(reduced, torch.from_numpy(masks), path=path, report=report, **few),
    )
    parts["preview"] = stage(
        "preview",
        lambda path: preview.train_preview(
            latents[0], latents[1], encoder, parts["classifier"], path=path, report=report, **few
        ),
    )
    export(parts, out)
    bundle = load_bundle(out, device="cpu")
    write_model_card(out, evaluate(bundle, films, nih, report), SPLIT)


def _latents(
    encoder: Autoencoder, stack: np.ndarray, sharp: np.ndarray, path: Path, *, views: int
) -> tuple[torch.Tensor, torch.Tensor]:
    if not path.exists():
        size = stack.shape[-1]
        virtual = denoiser.encode_films(encoder, stack.reshape(-1, size, size), views=1, seed=0)
        real = denoiser.encode_films(encoder, sharp, views=views, seed=1)

        def write(part: Path) -> None:
            with part.open("wb") as stream:
                np.savez(stream, virtual=virtual.numpy(), real=real.numpy())

        write_beside(path, write)
    stored = np.load(path, allow_pickle=False)
    return torch.from_numpy(stored["virtual"]), torch.from_numpy(stored["real"])


def _texts(patients: int, findings: np.ndarray, *, views: int) -> tuple[list[Any], list[Any]]:
    """Prompts of the latents of `_latents`, in their order."""
    first = SPLITS["train"][0]
    virtual = [text_denoiser.virtual_prompts(seed, v) for seed in range(first, first + patients) for v in range(4)]
    films = torch.from_numpy(findings).split(denoiser.ENCODED)
    real = [text_denoiser.real_prompts(row) for part in films for row in part.repeat(views, 1).numpy()]
    return virtual, real


CLASSES = {
    "autoencoder": "demo-autoencoder",
    "denoiser": "unet2d",
    "classifier": "demo-classifier",
    "judge": "demo-judge",
    "segmenter": "demo-segmenter",
    "clip": "demo-clip",
    "radedit": "demo-text-to-image",
    "preview": "preview",
}


CONFIGS: dict[str, Any] = {
    "denoiser": denoiser.UNET,
    "radedit": {"width": text_denoiser.WIDTH, "unet": denoiser.UNET},
}


def export(parts: dict[str, nn.Module], out: Path) -> None:
    """Writes half-precision safetensors and `bundle.toml`."""
    out.mkdir(parents=True, exist_ok=True)
    told: dict[str, dict[str, Any]] = {}
    for name, module in parts.items():
        file = f"{name}.safetensors"
        told[name] = {"class": CLASSES[name], "file": file, "sha256": save_part(module, out / file, half=True)}
        told[name]["config"] = CONFIGS.get(name) or module.config
        if name == "radedit":
            told[name]["schedule"] = text_denoiser.SCHEDULE
    config = {
        "name": "demo",
        "title": "cfkit demo bundle: small surrogates for the paper's models",
        "image_size": 256,
        "licence": "MIT",
        "origin": "trained by `cfkit train demo` on virtual patients and NIH ChestX-ray14 films; see MODEL_CARD.md",
        "parts": {**told, "features": {"of": "clip"}, "schedule": SCHEDULE},
        "methods": RECOMMENDED,
    }
    write_beside(out / "bundle.toml", lambda part: part.write_text(bundle_toml(config)))


def describe_run() -> str:
    """The commit and machine that figures come from."""
    where = origin(f"{torch.get_num_threads()} CPU threads")
    return f"commit {where['commit'] or 'unknown'}, {where['machine']}, torch {torch.__version__}"


SPLIT = "The judge and the CLIP-style model share no training patient with the classifier that guides edits."


def write_model_card(out: Path, figures: list[Any], split: str) -> None:
    """Writes MODEL_CARD.md beside the weights.

    Args:
        out: The bundle's folder.
        figures: What was measured.
        split: What is to be said of whom its models were trained on.
    """
    size = sum(path.stat().st_size for path in out.glob("*.safetensors")) / 1e6
    counts = ", ".join(f"{count} {name}" for name, (_, count) in SPLITS.items())
    text = f"""# Demo bundle

Small models, trained on a CPU in a few hours by `cfkit train demo`, so that every method of cfkit runs
offline at once. They stand in for the paper's models and are **not** Cheff, CheXzero or PSPNet; nothing
measured on them says how those would do. Not for clinical use.

- Films: virtual patients ({counts}; four films each, 256 px), all made from **one** CT, so they vary less
  than people do; and NIH ChestX-ray14 (Wang et al., CVPR 2017), split by patient. Patients
  {", ".join(str(p) for p in HELD_OUT)} are in no training set.
- NIH labels are text-mined and noisy, and most of those films are 64 px: the classifiers' figures on real
  films are modest and are given with 95 % intervals over patients.
- {split}
- Fréchet distances use the image tower of the CLIP-style model ("demo-clip"), not Inception.
- The classifier's input gradient is trained to point from a virtual film to its exact counterfactual
  (`cfkit/train/guidance.py`); judge and CLIP-style model are trained on labels alone.
- Classifier, judge and CLIP-style model have also seen films, real ones among them, onto which a virtual
  patient's finding was grafted (`cfkit/train/classifiers.py`): what a finding adds is known on them.
- The text-conditional denoiser is the unconditional one told a prompt through its time embedding, trained on
  crossed pairs (`cfkit/train/text_denoiser.py`): it is no text-to-image model of RadEdit's kind. The first 336 of
  its 500 steps followed the learning rates of a schedule of 700.
- The preview is a small decoder that is distilled from the autoencoder's (`cfkit/train/preview.py`); fast edits follow
  its gradient and show none of its films.
- Weights: {size:.1f} MB, half precision, MIT licence.

## Figures

On patients that no part was trained on; {describe_run()}.

{table(figures)}
"""
    write_beside(out / "MODEL_CARD.md", lambda part: part.write_text(text))
