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
from .augment import expose, frame, soften, uniform
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


@dataclass(frozen=True)
class Batch:
    """What a step sees.

    Attributes:
        films: (B, 1, SIZE, SIZE) in [0, 1].
        findings: (B, 3), 0 or 1.
        noisy: (B, 3) bool, which of them are text-mined labels of a real film.
    """

    films: Tensor
    findings: Tensor
    noisy: Tensor

    def __add__(self, other: Batch) -> Batch:
        both = zip((self.films, self.findings, self.noisy), (other.films, other.findings, other.noisy), strict=True)
        return Batch(*(torch.cat(parts) for parts in both))


def draw_batch(films: Films, generator: torch.Generator, *, quadruplets: int, reals: int, sharps: int = 0) -> Batch:
    """Draws whole virtual quadruplets, so that only the finding tells two films apart, and real films."""
    chosen = torch.randint(len(films.virtual), (quadruplets,), generator=generator)
    virtual = films.virtual[chosen].flatten(0, 1).float().unsqueeze(1) / 255.0
    y = torch.cat([torch.zeros(1, 3), torch.eye(3)]).repeat(quadruplets, 1)
    batch = Batch(augment(virtual, generator), y, torch.zeros(y.shape, dtype=torch.bool))
    for source, count in ((films.real, reals), (films.sharp, sharps)):
        if source is None or not count:
            continue
        chosen = torch.randint(len(source.films), (count,), generator=generator)
        y = torch.from_numpy(source.findings)[chosen]
        batch += Batch(augment(at_size(source, chosen), generator), y, torch.ones(y.shape, dtype=torch.bool))
    return batch


def draw_grafts(films: Films, count: int, generator: torch.Generator) -> Batch:
    """Films as they are, and the same with a finding grafted on: 2 `count` films.

    Both of a pair are augmented alike, so that the added finding alone tells them apart, on real films as
    on virtual ones. The label of what was added, or not, is certain.
    """
    rows = torch.arange(count)
    finding = rows % len(FINDINGS)
    ground, grafted, y, noisy = _graft(films, finding, generator)
    both = augment(torch.cat([ground, grafted], dim=1), generator)
    there = y.clone()
    there[rows, finding] = 1.0
    noisy[rows, finding] = False
    return Batch(torch.cat([both[:, :1], both[:, 1:]]), torch.cat([y, there]), torch.cat([noisy, noisy]))


def graft(films: Films, finding: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Films x without a finding and x + a (x_1 - x_0), where x_0 and x_1 are another, virtual patient's pair.

    Two thirds are real films, the others virtual; the severity a is drawn from [0.5, 1].

    Args:
        films: The films.
        finding: Which finding goes onto each, (N,).
        generator: Of the draws.

    Returns:
        Both (N, 1, SIZE, SIZE) in [0, 1].
    """
    ground, grafted, _, _ = _graft(films, finding, generator)
    return ground, grafted


def _graft(films: Films, finding: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `graft`, with the grounds' findings (N, 3) and which of them are text-mined."""
    count = len(finding)
    donors = films.virtual[torch.randint(len(films.virtual), (count,), generator=generator)].float() / 255.0
    change = (donors[torch.arange(count), 1 + finding] - donors[:, 0]).unsqueeze(1)
    change = F.pad(change, (8, 8, 8, 8))  # a graft is not in quite the same place as its donor had it
    left, up = torch.randint(17, (2, count), generator=generator).tolist()
    change = torch.stack([c[:, v : v + SIZE, h : h + SIZE] for c, h, v in zip(change, left, up, strict=True)])

    reals = 2 * count // 3
    sharps = 0 if films.sharp is None else reals // 2
    grounds, known = [], []
    for source, part in ((films.sharp, slice(0, sharps)), (films.real, slice(sharps, reals))):
        if source is None or part.start == part.stop:
            continue
        free = [np.flatnonzero(source.findings[:, k] < 0.5) for k in range(len(FINDINGS))]
        draws = torch.rand(part.stop - part.start, generator=generator).tolist()
        pairs = zip(finding[part].tolist(), draws, strict=True)
        chosen = torch.tensor([int(free[k][int(u * len(free[k]))]) for k, u in pairs])
        grounds.append(at_size(source, chosen))
        known.append(torch.from_numpy(source.findings)[chosen])
        side = source.films.shape[-1]
        if side < SIZE:  # a graft is as sharp as the film that it goes onto
            coarse = F.interpolate(change[part], size=(side, side), mode="bilinear", antialias=True)
            change[part] = F.interpolate(coarse, size=(SIZE, SIZE), mode="bilinear")
    others = torch.randint(len(films.virtual), (count - reals,), generator=generator)
    ground = torch.cat([*grounds, films.virtual[others, :1].float() / 255.0])
    y = torch.cat([*known, torch.zeros(count - reals, len(FINDINGS))])
    noisy = (torch.arange(count) < reals).unsqueeze(1).repeat(1, len(FINDINGS))
    grafted = (ground + uniform(count, 0.5, 1.0, generator) * change).clamp(0.0, 1.0)
    return ground, grafted, y, noisy


def at_size(source: RealFilms, chosen: Tensor) -> Tensor:
    """Real films at the classifiers' size, (N, 1, SIZE, SIZE) in [0, 1]."""
    x = torch.from_numpy(source.films[chosen.numpy()]).float().unsqueeze(1) / 255.0
    return F.interpolate(x, size=(SIZE, SIZE), mode="bilinear", antialias=x.shape[-1] > SIZE)


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """Framing, exposure, sharpness and noise of films (N, C, H, W): a finding survives all of them.

    Real films and virtual ones get the same few resolutions, so that sharpness tells nothing.
    """
    x = frame(x, generator, angle=0.12, scale=(0.85, 1.15), shift=0.1)
    x = expose(x, generator, gamma=(0.7, 1.4), contrast=(0.7, 1.2), offset=0.12)
    return soften(x, generator, to=56, noise=0.03)


def classification_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Binary cross-entropy; text-mined labels weigh less and are smoothed, their rare positives weigh more."""
    y, noisy = batch.findings, batch.noisy
    weight = torch.where(noisy, 0.6, 1.0) * torch.where(noisy & (y > 0), 3.0, 1.0)
    smooth = torch.where(noisy, 0.1 + 0.8 * y, 0.01 + 0.98 * y)
    return F.binary_cross_entropy_with_logits(logits, smooth, weight)


def train_judge(films: Films, *, path: Path, steps: int = 1500, report: Report = print) -> ConvNextClassifier:
    """The judge: another architecture on other patients."""
    torch.manual_seed(2)

    def loss(module: nn.Module, step: int, generator: torch.Generator) -> Tensor:
        batch = draw_batch(films, generator, quadruplets=4, reals=16) + draw_grafts(films, 12, generator)
        with torch.autocast("cpu", torch.bfloat16):
            logits = module(batch.films).float()
        return classification_loss(logits, batch)

    return fit(ConvNextClassifier(), loss, steps=steps, path=path, lr=1.5e-3, weight_decay=0.05, seed=2, report=report)  # type: ignore[return-value]


POSITIVE = ("{f}", "Present {f}", "{f} present", "film with {f}")
NEGATIVE = ("No {f}", "No apparent {f}", "{f} absent", "film without {f}")


def train_clip(films: Films, *, path: Path, steps: int = 1000, report: Report = print) -> Clip:
    """The CLIP-style model: each finding's positive prompt against its negative, softmax of cosines."""
    torch.manual_seed(3)

    def loss(module: nn.Module, step: int, generator: torch.Generator) -> Tensor:
        assert isinstance(module, Clip)
        batch = draw_batch(films, generator, quadruplets=4, reals=16) + draw_grafts(films, 12, generator)
        form = int(torch.randint(len(POSITIVE), (1,), generator=generator)) if step % 2 else 0
        with torch.autocast("cpu", torch.bfloat16):
            image = module.image_features(batch.films).float()
        positive = module.text_features([POSITIVE[form].format(f=f) for f in FINDINGS])
        negative = module.text_features([NEGATIVE[form].format(f=f) for f in FINDINGS])
        logits = module.logit_scale.exp() * image @ (positive - negative).T
        # prompts of different findings stay apart, as captions of different images do
        apart = torch.cat([positive, negative])
        spread = (apart @ apart.T - torch.eye(6)).pow(2).mean()
        return classification_loss(logits, batch) + 0.05 * spread

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
        both = frame(both, generator, angle=0.3, scale=(0.8, 1.25), shift=0.24)
        x, y = both[:, :1], both[:, 1:]
        x = expose(x, generator, gamma=(0.5, 2.0), contrast=(0.6, 1.2), offset=0.15)
        x = (x + 0.03 * torch.randn(x.shape, generator=generator)).clamp(0, 1)
        with torch.autocast("cpu", torch.bfloat16):
            logits = module.logits(x).float()
        p = torch.sigmoid(logits)
        dice = 1.0 - (2 * (p * y).sum((0, 2, 3)) + 1) / (p.sum((0, 2, 3)) + y.sum((0, 2, 3)) + 1)
        return F.binary_cross_entropy_with_logits(logits, y) + 0.5 * dice.mean()

    return fit(Segmenter(), loss, steps=steps, path=path, lr=2e-3, weight_decay=0.01, seed=4, report=report)  # type: ignore[return-value]
