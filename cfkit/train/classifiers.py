"""Trains the judge, the CLIP-style model and the segmenter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..bundles.networks import FINDINGS, Clip, ConvNextClassifier, Segmenter
from .loop import fit
from .real import RealFilms

SIZE = 128  # pixels: the classifiers see no more

Report = Callable[[str], None]


@dataclass(frozen=True)
class Films:
    """Training films of the classifiers.

    Attributes:
        virtual: (P, 4, SIZE, SIZE) uint8, without a finding and with each of the three.
        real: Films at 64 px, (N, 64, 64) uint8 with findings (N, 3).
        sharp: Films at 256 px, (M, 256, 256) uint8 with findings (M, 3), or None.
    """

    virtual: Tensor
    real: RealFilms
    sharp: RealFilms | None = None


def reduce_films(films: np.ndarray) -> Tensor:
    """Films (P, 4, H, W) uint8 at the classifiers' size, (P, 4, SIZE, SIZE) uint8."""
    reduced = [
        F.interpolate(part.float(), size=(SIZE, SIZE), mode="bilinear", antialias=True)
        .round()
        .clamp(0, 255)
        .to(torch.uint8)
        for part in torch.from_numpy(films).split(32)
    ]
    return torch.cat(reduced)


def draw_batch(films: Films, pairs: int, reals: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draws whole virtual quadruplets, so that only the finding tells two films apart, and real films.

    Returns:
        Films (B, 1, 128, 128) in [0, 1], findings (B, 3), and which are real (B,).
    """

    def draw(high: int, count: int) -> Tensor:
        return torch.randint(high, (count,), generator=generator)

    chosen = draw(len(films.virtual), pairs)
    x = films.virtual[chosen].flatten(0, 1).float().unsqueeze(1) / 255.0
    y = torch.cat([torch.zeros(1, 3), torch.eye(3)]).repeat(pairs, 1)
    real = draw(len(films.real.films), reals)
    small = torch.from_numpy(films.real.films)[real].float().unsqueeze(1) / 255.0
    x = torch.cat([x, F.interpolate(small, size=(SIZE, SIZE), mode="bilinear")])
    y = torch.cat([y, torch.from_numpy(films.real.findings)[real]])
    if films.sharp is not None:
        chosen = draw(len(films.sharp.films), max(reals // 4, 1))
        sharp = torch.from_numpy(films.sharp.films)[chosen].float().unsqueeze(1) / 255.0
        x = torch.cat([x, F.interpolate(sharp, size=(SIZE, SIZE), mode="bilinear", antialias=True)])
        y = torch.cat([y, torch.from_numpy(films.sharp.findings)[chosen]])
    is_real = torch.arange(len(x)) >= 4 * pairs
    return augment(x, generator), y, is_real


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """Affine, contrast, gamma, blur to a random resolution, noise: a finding survives all of them."""
    n = len(x)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator)

    angle, scale = uniform(-0.12, 0.12), uniform(0.85, 1.15)
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    affine = torch.stack(
        [torch.stack([cos, -sin, uniform(-0.1, 0.1)], 1), torch.stack([sin, cos, uniform(-0.1, 0.1)], 1)], 1
    )
    grid = F.affine_grid(affine, list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, align_corners=False, padding_mode="zeros")
    x = x.clamp(1e-4, 1.0) ** uniform(0.7, 1.4).view(-1, 1, 1, 1)
    x = (x - 0.5) * uniform(0.7, 1.2).view(-1, 1, 1, 1) + 0.5 + uniform(-0.12, 0.12).view(-1, 1, 1, 1)
    # the same few resolutions for real and virtual films, so that sharpness tells nothing
    blurred = F.interpolate(x, size=(56, 56), mode="bilinear", antialias=True)
    blurred = F.interpolate(blurred, size=x.shape[-2:], mode="bilinear")
    x = torch.lerp(x, blurred, (torch.rand(n, generator=generator) * 1.4).clamp(max=1.0).view(-1, 1, 1, 1))
    noise = torch.randn(x.shape, generator=generator) * uniform(0.0, 0.03).view(-1, 1, 1, 1)
    return (x + noise).clamp(0.0, 1.0)


def classification_loss(logits: Tensor, y: Tensor, is_real: Tensor) -> Tensor:
    """Binary cross-entropy; real labels are text-mined and noisy, so they weigh less and are smoothed."""
    weight = torch.where(is_real, 0.6, 1.0).unsqueeze(1) * torch.where(is_real.unsqueeze(1) & (y > 0), 3.0, 1.0)
    smooth = torch.where(is_real.unsqueeze(1), 0.1 + 0.8 * y, 0.01 + 0.98 * y)
    return F.binary_cross_entropy_with_logits(logits, smooth, weight)


def train_judge(films: Films, *, path: Path, steps: int = 1500, report: Report = print) -> ConvNextClassifier:
    """The judge: another architecture on other patients."""
    torch.manual_seed(2)

    def loss(module: nn.Module, step: int, generator: torch.Generator) -> Tensor:
        x, y, is_real = draw_batch(films, 6, 16, generator)
        with torch.autocast("cpu", torch.bfloat16):
            logits = module(x).float()
        return classification_loss(logits, y, is_real)

    return fit(ConvNextClassifier(), loss, steps=steps, path=path, lr=1.5e-3, weight_decay=0.05, seed=2, report=report)  # type: ignore[return-value]


POSITIVE = ("{f}", "Present {f}", "{f} present", "film with {f}")
NEGATIVE = ("No {f}", "No apparent {f}", "{f} absent", "film without {f}")


def train_clip(films: Films, *, path: Path, steps: int = 700, report: Report = print) -> Clip:
    """The CLIP-style model: each finding's positive prompt against its negative, softmax of cosines."""
    torch.manual_seed(3)

    def loss(module: nn.Module, step: int, generator: torch.Generator) -> Tensor:
        assert isinstance(module, Clip)
        x, y, is_real = draw_batch(films, 6, 16, generator)
        form = int(torch.randint(len(POSITIVE), (1,), generator=generator)) if step % 2 else 0
        with torch.autocast("cpu", torch.bfloat16):
            image = module.image_features(x).float()
        positive = module.text_features([POSITIVE[form].format(f=f) for f in FINDINGS])
        negative = module.text_features([NEGATIVE[form].format(f=f) for f in FINDINGS])
        logits = module.logit_scale.exp() * image @ (positive - negative).T
        # prompts of different findings stay apart, as captions of different images do
        apart = torch.cat([positive, negative])
        spread = (apart @ apart.T - torch.eye(6)).pow(2).mean()
        return classification_loss(logits, y, is_real) + 0.05 * spread

    return fit(Clip(), loss, steps=steps, path=path, lr=1.5e-3, weight_decay=0.02, seed=3, report=report)  # type: ignore[return-value]


def train_segmenter(films: Tensor, masks: Tensor, *, path: Path, steps: int = 700, report: Report = print) -> Segmenter:
    """The segmenter: cross-entropy and soft Dice over the 14 structures.

    Args:
        films: (P, 4, SIZE, SIZE) uint8.
        masks: (P, 4, 14, SIZE, SIZE) bool.
    """
    torch.manual_seed(4)

    def loss(module: nn.Module, step: int, generator: torch.Generator) -> Tensor:
        assert isinstance(module, Segmenter)
        patient = torch.randint(len(films), (16,), generator=generator)
        variant = torch.randint(4, (16,), generator=generator)
        x = films[patient, variant].unsqueeze(1).float() / 255.0
        y = masks[patient, variant].float()
        both = torch.cat([x, y], dim=1)
        # geometry for both, appearance for the film alone
        n = len(both)
        angle = 0.16 * torch.randn(n, generator=generator).clamp(-2, 2)
        scale = 0.8 + 0.45 * torch.rand(n, generator=generator)
        shift = 0.24 * (torch.rand(2, n, generator=generator) - 0.5)
        cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
        affine = torch.stack([torch.stack([cos, -sin, shift[0]], 1), torch.stack([sin, cos, shift[1]], 1)], 1)
        both = F.grid_sample(both, F.affine_grid(affine, list(both.shape), align_corners=False), align_corners=False)
        x, y = both[:, :1], both[:, 1:]
        gamma = torch.exp(0.35 * torch.randn(n, 1, 1, 1, generator=generator))
        contrast = 0.6 + 0.6 * torch.rand(n, 1, 1, 1, generator=generator)
        offset = 0.3 * (torch.rand(n, 1, 1, 1, generator=generator) - 0.5)
        x = ((x.clamp(1e-4, 1) ** gamma - 0.5) * contrast + 0.5 + offset).clamp(0, 1)
        x = (x + 0.03 * torch.randn(x.shape, generator=generator)).clamp(0, 1)
        with torch.autocast("cpu", torch.bfloat16):
            logits = module.logits(x).float()
        p = torch.sigmoid(logits)
        dice = 1.0 - (2 * (p * y).sum((0, 2, 3)) + 1) / (p.sum((0, 2, 3)) + y.sum((0, 2, 3)) + 1)
        return F.binary_cross_entropy_with_logits(logits, y) + 0.5 * dice.mean()

    return fit(Segmenter(), loss, steps=steps, path=path, lr=2e-3, weight_decay=0.01, seed=4, report=report)  # type: ignore[return-value]
