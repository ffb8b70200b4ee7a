"""Distils a bundle's decoder into the small one whose gradient fast edits follow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from ..bundles.preview import Preview, distillation_loss
from .loop import fit

STEPS, BATCH = 900, 16


def train_preview(
    virtual: Tensor,
    real: Tensor,
    autoencoder: nn.Module,
    classifier: nn.Module,
    *,
    path: Path,
    steps: int = STEPS,
    report: Callable[[str], None] = print,
) -> Preview:
    """Trains on latents of virtual and of real films, as many of each.

    Args:
        virtual: (N, C, h, w).
        real: (M, C, h, w).
        autoencoder: Its decoder is the teacher.
        classifier: That of the bundle.
    """
    torch.manual_seed(5)
    module = Preview(latent_channels=virtual.shape[1])

    def loss(module: nn.Module, step: int, generator: torch.Generator) -> Tensor:
        drawn = [
            source[torch.randint(len(source), (BATCH // 2,), generator=generator)].float() for source in (virtual, real)
        ]
        latents = torch.stack(drawn, dim=1).flatten(0, 1)  # in turns: both are among those that are moved
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        return distillation_loss(module, autoencoder, classifier, latents)

    trained = fit(module, loss, steps=steps, path=path, lr=2e-3, seed=9, report=report)
    assert isinstance(trained, Preview)
    return trained
