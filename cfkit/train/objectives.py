"""What each part of a bundle is trained to do, and how well it does it: for `cfkit train` on data of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DModel
from torch import Tensor, nn
from torch.nn import functional as F

from ..bundles.bundle import Bundle
from ..bundles.cheff import SCHEDULE, Denoiser
from ..bundles.networks import Autoencoder, ConvNextClassifier, Segmenter, SmoothClassifier
from ..bundles.preview import Preview, distillation_loss
from ..errors import UserError
from .augment import expose, frame
from .denoiser import UNET
from .evaluate import compare_preview, in_batches, psnr

PARTS = ("classifier", "judge", "segmenter", "autoencoder", "denoiser", "preview")


@dataclass(frozen=True)
class Figure:
    """A measured value, how it is called, and of how many films it is."""

    name: str
    value: float
    films: int


class Objective(nn.Module):
    """A part with its loss: `forward(films, targets)` is a scalar, so that whatever wraps modules can wrap it.

    Attributes:
        part: What is trained and kept.
        kind: Its class in `bundle.toml`.
        config: What builds it again.
    """

    part: nn.Module
    kind: str
    config: dict[str, Any]

    def prepare(self, film: Tensor, target: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One film (1, S, S) and its target as they are varied for training."""
        varied = frame(film[None], generator, angle=0.1, scale=(0.9, 1.15), shift=0.08, mode="bicubic")
        return expose(varied, generator, gamma=(0.7, 1.4), contrast=(0.9, 1.1))[0], target

    def figures(self, films: Tensor, targets: Tensor) -> list[Figure]:
        """How well the part does on films that it was not trained on."""
        raise NotImplementedError


class Classification(Objective):
    """Cross-entropy of the findings that are known; (N, K) targets, NaN where not."""

    def __init__(self, part: str, findings: Sequence[str], width: int):
        super().__init__()
        if part == "judge":
            self.part = ConvNextClassifier(tuple(findings), tuple(width * w for w in (40, 80, 144)))
            self.kind = "demo-judge"
        else:
            self.part = SmoothClassifier(tuple(findings), tuple(width * w for w in (24, 48, 96, 160)))
            self.kind = "demo-classifier"
        self.findings, self.config = tuple(findings), self.part.config

    def forward(self, films: Tensor, targets: Tensor) -> Tensor:
        logits = self.part(films).float()
        known = ~targets.isnan()
        loss = F.binary_cross_entropy_with_logits(logits, targets.nan_to_num(), reduction="none")
        return (loss * known).sum() / known.sum().clamp(min=1)

    def figures(self, films: Tensor, targets: Tensor) -> list[Figure]:
        from torchmetrics.functional.classification import binary_auroc

        out, logits = [], in_batches(self.part, films).float()
        for k, finding in enumerate(self.findings):
            known = ~targets[:, k].isnan()
            truth = targets[known, k].long()
            if 0 < int(truth.sum()) < len(truth):
                out.append(Figure(f"AUC {finding}", float(binary_auroc(logits[known, k], truth)), len(truth)))
        return out


class Segmentation(Objective):
    """Cross-entropy and soft Dice; (N, 14, S, S) targets."""

    def __init__(self, width: int):
        super().__init__()
        self.part, self.kind = Segmenter(tuple(width * w for w in (16, 32, 64, 96))), "demo-segmenter"
        self.config = self.part.config

    def prepare(self, film: Tensor, target: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        both = frame(torch.cat([film, target])[None], generator, angle=0.2, scale=(0.85, 1.2), shift=0.15)[0]
        return expose(both[None, :1], generator, gamma=(0.6, 1.7), contrast=(0.8, 1.2), offset=0.1)[0], both[1:]

    def forward(self, films: Tensor, targets: Tensor) -> Tensor:
        assert isinstance(self.part, Segmenter)
        logits = self.part.logits(films).float()
        y = F.interpolate(targets, size=logits.shape[-2:], mode="area")
        p = torch.sigmoid(logits)
        overlap = 2.0 * (p * y).sum((0, 2, 3)) + 1.0
        dice = 1.0 - overlap / (p.sum((0, 2, 3)) + y.sum((0, 2, 3)) + 1.0)
        return F.binary_cross_entropy_with_logits(logits, y) + 0.5 * dice.mean()

    def figures(self, films: Tensor, targets: Tensor) -> list[Figure]:
        a, b = in_batches(self.part, films) > 0.5, targets > 0.5
        dice = (2.0 * (a & b).sum((0, 2, 3)) + 1e-6) / (a.sum((0, 2, 3)) + b.sum((0, 2, 3)) + 1e-6)
        return [Figure("mean Dice", float(dice.mean()), len(films))]


class Reconstruction(Objective):
    """Error of a film through the autoencoder, whose code is kept smooth and near unit spread."""

    def __init__(self, width: int):
        super().__init__()
        self.part, self.kind = Autoencoder(widths=tuple(width * w for w in (32, 64, 128))), "demo-autoencoder"
        self.config = self.part.config

    def forward(self, films: Tensor, targets: Tensor) -> Tensor:
        assert isinstance(self.part, Autoencoder)
        latents = self.part.encode(films).float()
        error = self.part.decode(latents + 0.05 * torch.randn_like(latents)).float() - films
        spread = (latents.pow(2).mean() - 1.0).clamp(min=0.0)
        return error.abs().mean() + 5.0 * error.pow(2).mean() + 0.01 * spread

    def figures(self, films: Tensor, targets: Tensor) -> list[Figure]:
        part: Any = self.part
        round_trip = in_batches(lambda x: part.decode(part.encode(x)).clamp(0, 1), films)
        return [Figure("PSNR, dB", psnr(round_trip, films), len(films))]


class Denoising(Objective):
    """Equation 3 of the paper, on latents of an autoencoder that is not trained."""

    def __init__(self, autoencoder: nn.Module, channels: int, width: int):
        super().__init__()
        widths = [width * w for w in UNET["block_out_channels"]]
        self.config = {**UNET, "in_channels": channels, "out_channels": channels, "block_out_channels": widths}
        self.part, self.kind = Denoiser(UNet2DModel(**self.config)), "unet2d"
        self._autoencoder = [autoencoder]  # in a list, so that it is no submodule: it is neither trained nor kept
        self.register_buffer("alphas", DDIMScheduler.from_config(SCHEDULE).alphas_cumprod, persistent=False)
        self.alphas: Tensor

    def forward(self, films: Tensor, targets: Tensor) -> Tensor:
        with torch.no_grad():
            clean = self._encode(films)
        timesteps = torch.randint(len(self.alphas), (len(films),), device=films.device)
        return self._errors(clean, timesteps, torch.randn_like(clean)).mean()

    def figures(self, films: Tensor, targets: Tensor) -> list[Figure]:
        clean = in_batches(self._encode, films)
        timesteps = torch.linspace(0, len(self.alphas) - 1, len(films)).long()
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
        places = torch.arange(len(films))
        errors = in_batches(lambda k: self._errors(clean[k], timesteps[k], noise[k]), places)
        return [Figure("error of the noise", float(errors.mean()), len(films))]

    def _encode(self, films: Tensor) -> Tensor:
        autoencoder: Any = self._autoencoder[0].to(films.device)
        latents: Tensor = autoencoder.encode(films).float()
        return latents

    def _errors(self, clean: Tensor, timesteps: Tensor, noise: Tensor) -> Tensor:
        alpha = self.alphas[timesteps].view(-1, 1, 1, 1)
        predicted = self.part(alpha.sqrt() * clean + (1.0 - alpha).sqrt() * noise, timesteps)
        errors: Tensor = (predicted.float() - noise).pow(2).mean(dim=(1, 2, 3))
        return errors


class Distillation(Objective):
    """A small decoder that follows the bundle's own, in grey levels and in the eyes of its classifier."""

    def __init__(self, autoencoder: nn.Module, classifier: nn.Module, channels: int, width: int):
        super().__init__()
        self.part, self.kind = Preview(channels, (96 * width, 48 * width)), "preview"
        self.config = self.part.config
        self._teachers = [autoencoder, classifier]  # in a list, so that they are no submodules

    def forward(self, films: Tensor, targets: Tensor) -> Tensor:
        autoencoder, classifier = (teacher.to(films.device) for teacher in self._teachers)
        with torch.no_grad():
            latents = autoencoder.encode(films).float()  # type: ignore[operator]
        return distillation_loss(self.part, autoencoder, classifier, latents)

    def figures(self, films: Tensor, targets: Tensor) -> list[Figure]:
        autoencoder: Any
        classifier: Any
        autoencoder, classifier = (teacher.to(films.device) for teacher in self._teachers)
        latents = in_batches(autoencoder.encode, films)
        near, apart = compare_preview(self.part, autoencoder, classifier, latents)
        return [
            Figure("PSNR to the decoder, dB", near, len(films)),
            Figure("mean difference of the logits", apart, len(films)),
        ]


def make_objective(part: str, findings: Sequence[str], bundle: Bundle | None, width: int) -> Objective:
    """The objective of a part.

    Args:
        part: One of `PARTS`.
        findings: Of a classifier or judge.
        bundle: The bundle that the part goes into, if there is one yet.
        width: Multiplies the network's channels.

    Raises:
        UserError: There is no such part, or it needs another first.
    """
    if part in ("classifier", "judge"):
        return Classification(part, findings, width)
    if part == "segmenter":
        return Segmentation(width)
    if part == "autoencoder":
        return Reconstruction(width)
    autoencoder = None if bundle is None else bundle.autoencoder
    if autoencoder is None:
        raise UserError(f"train {part}: --out holds no autoencoder; `cfkit train autoencoder` comes first")
    with torch.no_grad():
        channels = autoencoder.encode(torch.zeros(1, 1, 64, 64, device=next(autoencoder.parameters()).device)).shape[1]
    if part == "denoiser":
        return Denoising(autoencoder, channels, width)
    assert bundle is not None
    if bundle.classifier is None:
        raise UserError("train preview: --out holds no classifier; `cfkit train classifier` comes first")
    return Distillation(autoencoder, bundle.classifier, channels, width)
