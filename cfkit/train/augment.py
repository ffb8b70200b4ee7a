"""Random framing, exposure and sharpness of training films, (N, C, H, W) in [0, 1].

The C films of a row share what is drawn, so that a pair stays a pair.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """`count` draws, (N, 1, 1, 1)."""
    return low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator)


def frame(
    x: Tensor,
    generator: torch.Generator,
    *,
    angle: float,
    scale: tuple[float, float],
    shift: float,
    mirrored: float = 0.0,
    mode: str = "bilinear",
) -> Tensor:
    """Rotates by up to `angle` radians, zooms, and shifts by up to `shift` half sides; `mirrored` is a probability."""
    n = len(x)
    turn = uniform(n, -angle, angle, generator).view(n)
    zoom = uniform(n, *scale, generator).view(n)
    side = torch.where(torch.rand(n, generator=generator) < mirrored, -1.0, 1.0)
    across, down = uniform(2 * n, -shift, shift, generator).view(2, n)
    cos, sin = torch.cos(turn) / zoom, torch.sin(turn) / zoom
    rows = [torch.stack([cos * side, -sin, across], 1), torch.stack([sin * side, cos, down], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode=mode, align_corners=False, padding_mode="zeros").clamp(0.0, 1.0)


def expose(
    x: Tensor,
    generator: torch.Generator,
    *,
    gamma: tuple[float, float],
    contrast: tuple[float, float] = (1.0, 1.0),
    offset: float = 0.0,
) -> Tensor:
    """A random gamma, contrast about mid-grey, and offset of up to `offset` grey levels."""
    n = len(x)
    x = x.clamp(1e-4, 1.0) ** uniform(n, *gamma, generator)
    x = (x - 0.5) * uniform(n, *contrast, generator) + 0.5 + uniform(n, -offset, offset, generator)
    return x.clamp(0.0, 1.0)


def soften(x: Tensor, generator: torch.Generator, *, to: int, noise: float) -> Tensor:
    """Blurs towards a resolution of `to` pixels, often wholly, and adds noise of up to `noise`."""
    n = len(x)
    blurred = F.interpolate(x, size=(to, to), mode="bilinear", antialias=True)
    blurred = F.interpolate(blurred, size=x.shape[-2:], mode="bilinear")
    x = torch.lerp(x, blurred, uniform(n, 0.0, 1.4, generator).clamp(max=1.0))
    return (x + torch.randn(x.shape, generator=generator) * uniform(n, 0.0, noise, generator)).clamp(0.0, 1.0)
