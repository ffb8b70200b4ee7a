"""Trains the demo autoencoder on virtual and real films."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..bundles.networks import Autoencoder
from .loop import fit

STEPS, BATCH, CROP = 5500, 12, 128


def train_autoencoder(
    virtual: np.ndarray, real: np.ndarray, *, path: Path, steps: int = STEPS, report: Callable[[str], None] = print
) -> Autoencoder:
    """Trains on crops, half of them from real films; latents end standardised per channel.

    Args:
        virtual: (N, H, W) uint8.
        real: (N, H, W) uint8.
    """
    torch.manual_seed(0)
    module = Autoencoder()
    sources = [torch.from_numpy(virtual), torch.from_numpy(real)]

    def loss(module: nn.Module, step: int, generator: torch.Generator) -> Tensor:
        assert isinstance(module, Autoencoder)
        crops = []
        for k in range(BATCH):
            source = sources[k % 2]
            index = int(torch.randint(len(source), (1,), generator=generator))
            top, left = (
                8 * int(torch.randint((source.shape[-1] - CROP) // 8 + 1, (1,), generator=generator)) for _ in "yx"
            )
            crops.append(source[index, top : top + CROP, left : left + CROP])
        films = torch.stack(crops).unsqueeze(1).float() / 255.0
        contrast = 1.0 + 0.3 * (torch.rand(BATCH, 1, 1, 1, generator=generator) - 0.5)
        films = ((films - 0.5) * contrast + 0.5).clamp(0.0, 1.0)
        if int(torch.randint(2, (1,), generator=generator)):
            films = films.flip(-1)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = module.kl.encode(F.pixel_unshuffle(films * 2.0 - 1.0, 2)).latent_dist
            mode: Tensor = posterior.mean.float()
            noise = torch.randn(mode.shape, generator=generator)
            decoded = module.kl.decode(mode + 0.05 * noise).sample.float()
        out: Tensor = (F.pixel_shuffle(decoded, 2) + 1.0) / 2.0
        error = out - films
        # the spread of the latents is held near one; noise of 0.05 keeps the code smooth
        spread = (mode.pow(2).mean() - 1.0).clamp(min=0.0)
        return error.abs().mean() + 5.0 * error.pow(2).mean() + 0.01 * spread

    averaged = fit(module, loss, steps=steps, path=path, lr=1.5e-3, report=report)
    assert isinstance(averaged, Autoencoder)
    standardise(averaged, torch.cat([source[:: max(len(source) // 128, 1)] for source in sources]))
    return averaged


@torch.no_grad()
def standardise(autoencoder: Autoencoder, films: Tensor) -> None:
    """Sets shift and scale so that latents of these films (N, H, W) uint8 have mean 0, variance 1."""
    autoencoder.shift.zero_()
    autoencoder.scale.fill_(1.0)
    latents = torch.cat([autoencoder.encode(part.unsqueeze(1).float() / 255.0) for part in films.split(16)])
    autoencoder.shift.copy_(latents.mean(dim=(0, 2, 3), keepdim=True))
    autoencoder.scale.copy_(latents.std(dim=(0, 2, 3), keepdim=True))
