"""Noise, and noise-matched blending of what must stay with what is edited."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def draw_noise(like: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Standard normal noise in the shape of `like`, each film from its own generator.

    A film's noise depends neither on the batch nor on the device: generators live on the CPU or on
    the film's device, and the values are moved.

    Args:
        like: (N, C, h, w).
        generators: N generators.
    """
    noise = [
        torch.randn(like.shape[1:], generator=generator, device=generator.device, dtype=torch.float32)
        for generator in generators
    ]
    return torch.stack([n.to(like.device, like.dtype) for n in noise])


def add_noise(latents: Tensor, noise: Tensor, alpha: float) -> Tensor:
    """The forward process to noise level alpha-bar (Gökmen & Konukoglu, equation 13)."""
    return float(alpha**0.5) * latents + float((1.0 - alpha) ** 0.5) * noise


def blend(x: Tensor, kept: Tensor, keep: Tensor) -> Tensor:
    """The kept region from the factual at x's own noise level (Gökmen & Konukoglu, equation 14).

    Args:
        x: Latents under edit, (N, C, h, w).
        kept: The factual's latents at the same noise level, same shape.
        keep: 1 where the factual stays, (N, 1, h, w) in [0, 1].
    """
    return keep * kept + (1.0 - keep) * x
