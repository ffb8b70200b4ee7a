"""Trains the demo bundle's unconditional denoiser on latents of virtual and real films."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DModel
from torch import Tensor, nn
from torch.nn import functional as F

from ..bundles.cheff import SCHEDULE, Denoiser
from ..bundles.networks import Autoencoder
from .augment import expose, frame
from .loop import fit

UNET: dict[str, Any] = {
    "in_channels": 8,
    "out_channels": 8,
    "block_out_channels": [64, 128, 192],
    "layers_per_block": 1,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "attention_head_dim": 32,
    "norm_num_groups": 16,
}
BATCH, REAL_SHARE = 32, 0.4
ENCODED = 16  # films encoded at once: all views of these come before the next films'


@torch.no_grad()
def encode_films(autoencoder: Autoencoder, films: np.ndarray, *, views: int, seed: int) -> Tensor:
    """Latents of films (N, H, W) uint8, each in `views` random framings: (N * views, C, h, w) float16."""
    generator = torch.Generator().manual_seed(seed)
    out = []
    for part in torch.from_numpy(films).split(ENCODED):
        x = part.unsqueeze(1).float() / 255.0
        for view in range(views):
            framed = x if view == 0 else reframe(x, generator)
            out.append(autoencoder.encode(framed).half())
    return torch.cat(out)


def reframe(x: Tensor, generator: torch.Generator) -> Tensor:
    """A random zoom, shift, small rotation, mirroring and change of contrast of each film."""
    x = frame(x, generator, angle=0.09, scale=(0.95, 1.25), shift=0.1, mirrored=0.3, mode="bicubic")
    return expose(x, generator, gamma=(0.7, 1.4))


def draw_timesteps(count: int, generator: torch.Generator, earliest: int = 0) -> Tensor:
    """Timesteps from `earliest` to 999, one from each of `count` equal bins, in random order: less variance."""
    u = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    return (earliest + u * (1000 - earliest)).long()[torch.randperm(count, generator=generator)]


def train_denoiser(
    virtual: Tensor, real: Tensor, *, path: Path, steps: int = 3500, report: Callable[[str], None] = print
) -> Denoiser:
    """Equation 3 of the paper: the error of the predicted noise.

    Args:
        virtual: Latents of virtual films, (N, C, h, w) float16.
        real: Latents of real films.
    """
    torch.manual_seed(5)
    alphas = DDIMScheduler.from_config(SCHEDULE).alphas_cumprod
    reals = round(BATCH * REAL_SHARE)

    def loss(module: nn.Module, step: int, generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(virtual), (BATCH - reals,), generator=generator)
        chosen_real = torch.randint(len(real), (reals,), generator=generator)
        clean = torch.cat([virtual[chosen], real[chosen_real]]).float()
        noise = torch.randn(clean.shape, generator=generator)
        timesteps = draw_timesteps(BATCH, generator)
        alpha = alphas[timesteps].view(-1, 1, 1, 1)
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        with torch.autocast("cpu", torch.bfloat16):
            predicted = module(noisy, timesteps)
        return F.mse_loss(predicted.float(), noise)

    module = Denoiser(UNet2DModel(**UNET))
    return fit(module, loss, steps=steps, path=path, lr=6e-4, average=0.999, seed=5, report=report)  # type: ignore[return-value]
