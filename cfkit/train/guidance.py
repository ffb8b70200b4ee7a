"""Trains the classifier that guides edits, on exact counterfactual pairs.

An editor follows a classifier's gradient, so the gradient is trained too: between a virtual
patient's film without a finding and the same film with it, the logit rises evenly, and its gradient
points from the one to the other (gradient supervision: Teney et al., ECCV 2020).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..bundles.networks import FINDINGS, SmoothClassifier
from .augment import expose, frame
from .classifiers import SIZE, Films, classification_loss, draw_batch, graft
from .loop import fit

PAIRS, REALS, SHARPS, QUADRUPLETS = 18, 10, 4, 4  # films of each kind in a batch
GRAFTS = 12  # of the pairs, in the second stage
SLOPE = 8.0  # rise of the logit from the film without to the film with a finding


def train_classifier(
    films: Films,
    *,
    path: Path,
    steps: int = 1600,
    report: Callable[[str], None] = print,
) -> SmoothClassifier:
    """The guidance classifier: first on pairs of virtual films, then on findings grafted onto real films too.

    The second stage has three eighths of the steps of the first.
    """
    torch.manual_seed(1)

    def loss_with(grafts: int) -> Callable[[nn.Module, int, torch.Generator], Tensor]:
        def loss(module: nn.Module, step: int, generator: torch.Generator) -> Tensor:
            return pair_loss(module, films, generator, grafts=grafts) + label_loss(module, films, generator)

        return loss

    run = partial(fit, weight_decay=0.02, report=report)
    first = run(SmoothClassifier(), loss_with(0), steps=steps, path=path, lr=2e-3, seed=1)
    first.requires_grad_(True)
    second, few = path.with_name(f"{path.stem}-grafts.pt"), max(steps * 3 // 8, 1)
    trained = run(first, loss_with(GRAFTS), steps=few, path=second, lr=8e-4, average=0.99, seed=7)
    assert isinstance(trained, SmoothClassifier)
    return trained


def pair_loss(module: nn.Module, films: Films, generator: torch.Generator, *, grafts: int = 0) -> Tensor:
    """On the way between the films of a pair, x_0 + a (x_1 - x_0), and a little beyond its end.

    Three terms: the finding's logit is `SLOPE` (a - 1/2), held at its ends beyond them; the other
    findings are absent; and the gradient of the logit, at 64 px, has the direction of x_1 - x_0. The
    first `grafts` pairs are real films and virtual ones with another patient's finding added, whose
    other findings are not known.
    """
    rows = torch.arange(PAIRS)
    finding = rows % len(FINDINGS)
    chosen = films.virtual[torch.randint(len(films.virtual), (PAIRS,), generator=generator)].float() / 255.0
    without, with_it = chosen[:, :1], chosen[rows, 1 + finding].unsqueeze(1)
    if grafts:
        ground, grafted = graft(films, finding[:grafts], generator)
        without, with_it = torch.cat([ground, without[grafts:]]), torch.cat([grafted, with_it[grafts:]])
    without, with_it = augment_pair(without, with_it, generator)
    change = with_it - without
    u = torch.rand(PAIRS, generator=generator) * 1.6 - 0.3  # both ends are drawn often
    share = u.clamp(0.0, 1.0)
    beyond = torch.where(u > 1.0, 1.0 + (u - 1.0) / 0.6 * torch.rand(PAIRS, generator=generator), share)
    x = (without + beyond.view(-1, 1, 1, 1) * change + draw_disturbance(PAIRS, generator)).clamp(0.0, 1.0)
    x.requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16):
        logits = module(x).float()
    own = logits[rows, finding]
    path = F.smooth_l1_loss(own, SLOPE * (share - 0.5))
    known = F.one_hot(finding, len(FINDINGS)) == 0
    known[:grafts] = False
    others = F.softplus(logits)[known].mean()
    (gradient,) = torch.autograd.grad(own.sum(), x, create_graph=True)
    aligned = F.cosine_similarity(F.avg_pool2d(gradient, 2).flatten(1), F.avg_pool2d(change, 2).flatten(1))
    return 0.5 * path + 0.3 * others + (1.0 - aligned).mean()


def label_loss(module: nn.Module, films: Films, generator: torch.Generator) -> Tensor:
    """Cross-entropy on real films and on virtual ones, both with every augmentation."""
    batch = draw_batch(films, generator, quadruplets=QUADRUPLETS, reals=REALS, sharps=SHARPS)
    with torch.autocast("cpu", torch.bfloat16):
        logits = module(batch.films).float()
    return classification_loss(logits, batch)


def augment_pair(without: Tensor, with_it: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The same framing, gamma and contrast for both films of a pair, (N, 1, H, W) each."""
    x = torch.cat([without, with_it], dim=1)
    x = frame(x, generator, angle=0.1, scale=(0.88, 1.12), shift=0.08)
    x = expose(x, generator, gamma=(0.75, 1.35), contrast=(0.75, 1.15), offset=0.1)
    return x[:, :1], x[:, 1:]


def draw_disturbance(count: int, generator: torch.Generator) -> Tensor:
    """Errors such as a denoiser's predicted clean film has, at several scales, (N, 1, SIZE, SIZE)."""
    out = torch.zeros(count, 1, SIZE, SIZE)
    for side in (8, 16, 32, 64):
        smooth = F.interpolate(
            torch.randn(count, 1, side, side, generator=generator), size=(SIZE, SIZE), mode="bicubic"
        )
        out = out + smooth * (torch.rand(count, 1, 1, 1, generator=generator) * 0.02)
    grain = torch.randn(count, 1, SIZE, SIZE, generator=generator)
    return out + grain * torch.rand(count, 1, 1, 1, generator=generator) * 0.02
