"""DDIM: one step between any two noise levels, inversion and denoising (Song et al., ICLR 2021)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..editor import Progress
from .schedule import Grid

Denoiser = Callable[[Tensor, Tensor], Tensor]


def ddim_step(x: Tensor, noise: Tensor, alpha: float, alpha_to: float) -> tuple[Tensor, Tensor]:
    """Moves latents from noise level alpha to alpha_to with the predicted noise, eta = 0.

    Gökmen & Konukoglu, equations 6 to 8 (upwards) and 10 (downwards): the same step both ways.

    Args:
        x: Latents, (N, C, h, w).
        noise: Predicted noise, same shape.
        alpha: alpha-bar of x.
        alpha_to: alpha-bar of the result.

    Returns:
        Latents at alpha_to, and the predicted clean latents, both (N, C, h, w).
    """
    clean = (x - (1.0 - alpha) ** 0.5 * noise) / alpha**0.5
    return alpha_to**0.5 * clean + (1.0 - alpha_to) ** 0.5 * noise, clean


def timestep_batch(timestep: int, x: Tensor) -> Tensor:
    """The timestep once a film, (N,) int64 on the latents' device."""
    return torch.full((len(x),), timestep, dtype=torch.long, device=x.device)


@torch.no_grad()
def invert(
    denoiser: Denoiser, latents: Tensor, grid: Grid, progress: Progress | None = None, *, iterations: int = 0
) -> list[Tensor]:
    """DDIM inversion: clean latents to noise, so that `denoise` leads back.

    The noise is predicted at the timestep that the step leads to, as in diffusers'
    `DDIMInverseScheduler` and in the public release.

    Args:
        denoiser: Predicts the noise.
        latents: Clean latents, (N, C, h, w).
        grid: The timesteps.
        progress: Called after each step.
        iterations: Fixed-point iterations that make each step the exact inverse of the one down
            (Pan et al., ICCV 2023): the noise is predicted again at the latents just found.

    Returns:
        S + 1 latents (N, C, h, w), from the clean to the noisiest.
    """
    trajectory = [latents]
    for step, (timestep, alpha_below, alpha) in enumerate(grid.up(), 1):
        x = trajectory[-1]
        found = x
        for _ in range(1 + iterations):
            found, _ = ddim_step(x, denoiser(found, timestep_batch(timestep, x)), alpha_below, alpha)
        trajectory.append(found)
        if progress:
            progress(step, len(grid))
    return trajectory


@torch.no_grad()
def denoise(denoiser: Denoiser, latents: Tensor, grid: Grid) -> Tensor:
    """DDIM from the noisiest level of the grid to clean latents, (N, C, h, w)."""
    x = latents
    for timestep, alpha, alpha_below in grid.down():
        x, _ = ddim_step(x, denoiser(x, timestep_batch(timestep, x)), alpha, alpha_below)
    return x
