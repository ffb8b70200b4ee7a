"""Makes a bundle of published checkpoints: converts each to safetensors and says what is missing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import UserError, unknown
from ..files import write_beside
from .bundle import user_folder
from .checkpoints import read_checkpoint
from .cheff import SCHEDULE
from .cheff_text import load_vocabulary
from .manifest import bundle_toml, file_digest, folder_digest, save_part
from .radedit import load_radedit

VOCABULARY = "vocab.txt"
CLASSIFIERS = ("jfhealthcare", "resnet152", "torchxrayvision")
OWNERS = {
    "autoencoder": "Cheff's autoencoder, by saiboxx/chexray-diffusion, MIT: --autoencoder",
    "denoiser": "Cheff's unconditional U-Net, by saiboxx/chexray-diffusion, MIT: --unet",
    "classifier": "DenseNet-121 of jfhealthcare/Chexpert, Apache-2.0, or another: --classifier, --classifier-kind",
    "judge": "a second classifier that no editor sees, such as torchxrayvision's, Apache-2.0: --judge, --judge-kind",
    "segmenter": "PSPNet for ChestX-Det, released by mlmed/torchxrayvision, Apache-2.0: --segmenter",
    "clip": "CheXzero, by rajpurkarlab/CheXzero, MIT: --clip",
    "radedit": "microsoft/radedit with stabilityai/sdxl-vae and microsoft/BiomedVLP-BioViL-T, research use: --radedit",
    "features": "Inception-v3 as pytorch-fid and torch-fidelity publish it, Apache-2.0: --inception",
}


@dataclass(frozen=True)
class Sources:
    """Where the published files are; what is None is left out of the bundle.

    Attributes:
        head_channels: Channels of an attention head of the U-Net, which its shapes do not tell.
        classifier_kind: One of `CLASSIFIERS`.
        judge_kind: The same.
        radedit: A folder as `load_radedit` wants it.
        text_to_image: Cheff's text-to-image U-Net, for `radedit` to run on instead.
        vocabulary: `vocab.txt` of bert-base-uncased, for its prompts.
    """

    unet: Path | None = None
    head_channels: int = 32
    autoencoder: Path | None = None
    classifier: Path | None = None
    classifier_kind: str = "jfhealthcare"
    judge: Path | None = None
    judge_kind: str = "torchxrayvision"
    segmenter: Path | None = None
    clip: Path | None = None
    radedit: Path | None = None
    inception: Path | None = None
    text_to_image: Path | None = None
    vocabulary: Path | None = None


@dataclass(frozen=True)
class Part:
    """A converted part: what `bundle.toml` says of it, and its weights."""

    kind: str
    config: dict[str, Any]
    module: nn.Module
    more: dict[str, Any] = field(default_factory=dict)


def import_cheff(sources: Sources, out: Path, *, report: Callable[[str], None] = print) -> None:
    """Writes a bundle of the paper's models into a folder that is not there yet.

    A file that is no such part stops it, and nothing is left behind.

    Raises:
        UserError: Nothing was given, a file cannot be used, or the folder cannot be written.
    """
    if not any(isinstance(value, Path) for value in vars(sources).values()):
        raise UserError("bundles import cheff: give at least one file, such as --unet U.pt --autoencoder A.pt")
    for option, kind in (("classifier", sources.classifier_kind), ("judge", sources.judge_kind)):
        if kind not in CLASSIFIERS:
            raise UserError(f"--{option}-kind: {unknown('kind', kind, CLASSIFIERS)}")
    if sources.radedit and sources.text_to_image:
        raise UserError("--text-to-image: `radedit` runs on one model; leave it or --radedit out")
    if sources.text_to_image and not (sources.vocabulary and sources.autoencoder):
        raise UserError("--text-to-image: needs --vocabulary vocab.txt, and --autoencoder for its latents")
    if out.exists():
        raise UserError(f"--out {out}: is already there; choose another folder")
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        _write(sources, part, report)
        part.rename(out)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror}); choose another folder") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    report(f"{out}: use it with --bundle {out.name if out.parent == user_folder() else out}")


def _write(sources: Sources, out: Path, report: Callable[[str], None]) -> None:
    parts: dict[str, dict[str, Any]] = {}
    for name, path, convert in _conversions(sources):
        try:
            made = convert(path)
        except UserError as error:
            raise UserError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
        file = f"{name}.safetensors"
        parts[name] = {"class": made.kind, "file": file, "sha256": save_part(made.module, out / file)}
        parts[name] |= {"source": OWNERS[name], "config": made.config, **made.more}
        weights = sum(p.numel() for p in made.module.parameters())
        report(f"{name}: {path.name}, {weights / 1e6:.1f} million weights")
        del made
    if sources.text_to_image and sources.vocabulary:
        load_vocabulary(sources.vocabulary)  # says what is wrong with it, if anything
        shutil.copyfile(sources.vocabulary, out / VOCABULARY)
        parts["radedit"] |= {"vocabulary": VOCABULARY, "vocabulary_sha256": file_digest(out / VOCABULARY)}
    if sources.radedit is not None:
        load_radedit(sources.radedit, torch.device("cpu"))  # the same
        shutil.copytree(sources.radedit, out / "radedit")
        parts["radedit"] = {"folder": "radedit", "sha256": folder_digest(out / "radedit")}
        report(f"radedit: {sources.radedit}")
    if "features" not in parts and "clip" in parts:
        parts["features"] = {"of": "clip"}
    config = {
        "name": "cheff",
        "title": "The models of the paper, from their published files",
        "image_size": 256,
        "licence": "each part its own; see parts",
        "parts": {**parts, "schedule": SCHEDULE},
    }
    write_beside(out / "bundle.toml", lambda path: path.write_text(bundle_toml(config)))
    for name, owner in OWNERS.items():
        if name not in parts:
            report(f"{name}: missing ({owner})")


def _conversions(sources: Sources) -> list[tuple[str, Path, Callable[[Path], Part]]]:
    given = {
        "autoencoder": (sources.autoencoder, _autoencoder),
        "denoiser": (sources.unet, lambda path: _unet(path, sources.head_channels)),
        "classifier": (sources.classifier, lambda path: _classifier(path, sources.classifier_kind)),
        "judge": (sources.judge, lambda path: _classifier(path, sources.judge_kind)),
        "segmenter": (sources.segmenter, _segmenter),
        "clip": (sources.clip, _clip),
        "features": (sources.inception, _inception),
        "radedit": (sources.text_to_image, _text_to_image),
    }
    return [(name, path, convert) for name, (path, convert) in given.items() if path is not None]


def _autoencoder(path: Path) -> Part:
    from .cheff import CheffAutoencoder, convert_autoencoder

    kl = convert_autoencoder(read_checkpoint(path))
    return Part("cheff-autoencoder", _plain(kl.config), CheffAutoencoder(kl))


def _unet(path: Path, head_channels: int) -> Part:
    from .cheff import Denoiser, convert_unet

    unet = convert_unet(read_checkpoint(path), num_head_channels=head_channels)
    return Part("unet2d", _plain(unet.config), Denoiser(unet))


def _classifier(path: Path, kind: str) -> Part:
    from .classifiers import convert_classifier

    module, config = convert_classifier(read_checkpoint(path), kind, path)
    return Part(kind, config, module)


def _segmenter(path: Path) -> Part:
    from .chestx_det import convert_segmenter

    return Part("chestx-det", {}, convert_segmenter(read_checkpoint(path)))


def _clip(path: Path) -> Part:
    from .chexzero import convert_chexzero

    module, config = convert_chexzero(read_checkpoint(path))
    return Part("chexzero", config, module)


def _inception(path: Path) -> Part:
    from .inception import convert_inception

    return Part("inception", {}, convert_inception(read_checkpoint(path)))


def _text_to_image(path: Path) -> Part:
    from .cheff_text import convert_text_to_image

    module, config, factor = convert_text_to_image(read_checkpoint(path))
    more = {"schedule": SCHEDULE, "scale_factor": factor}
    return Part("cheff-text-to-image", config, module, more)


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """What diffusers built a model with, without its own marks and what is not set."""
    return {key: value for key, value in config.items() if not key.startswith("_") and value is not None}
