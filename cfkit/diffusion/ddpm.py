"""Edit-friendly DDPM inversion (Huberman-Spiegelglas et al., CVPR 2024) and its replay.

A path of latents, each noised independently of the others, is read as if a DDPM sampler had drawn
it: what a step adds to its `posterior_mean`, eta sqrt(var) z_t, is its innovation. Replayed with
another prediction of the noise, the innovations keep the film's structure. An innovation is a
difference and nothing is divided by the variance, which is zero at the last step: there it is the
error of the prediction, and a path replayed as it was made ends where it began.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .blending import add_noise, draw_noise
from .schedule import Grid


def noisy_path(latents: Tensor, grid: Grid, generators: Sequence[torch.Generator]) -> list[Tensor]:
    """x_t = sqrt(alpha-bar_t) x_0 + sqrt(1 - alpha-bar_t) n_t, with independent noise at every step.

    Args:
        latents: Clean latents, (N, C, h, w).
        grid: The timesteps.
        generators: One a film.

    Returns:
        S + 1 latents (N, C, h, w), from the clean to the noisiest.
    """
    return [latents, *(add_noise(latents, draw_noise(latents, generators), alpha) for alpha in grid.alphas)]


def posterior_mean(x: Tensor, noise: Tensor, alpha: float, alpha_prev: float, eta: float) -> Tensor:
    """Mean of the step from alpha-bar to alpha-bar below it (Song et al., ICLR 2021, equation 12).

    sqrt(ab_p) (x - sqrt(1 - ab_t) e) / sqrt(ab_t) + sqrt(1 - ab_p - eta^2 var) e, with
    var = (1 - ab_p) / (1 - ab_t) (1 - ab_t / ab_p).

    Args:
        x: Latents at `alpha`, (N, C, h, w).
        noise: Predicted noise, same shape.
        alpha: alpha-bar of x.
        alpha_prev: alpha-bar of the result.
        eta: 1 for DDPM, 0 for DDIM.
    """
    variance = (1.0 - alpha_prev) / (1.0 - alpha) * (1.0 - alpha / alpha_prev)
    clean = (x - (1.0 - alpha) ** 0.5 * noise) / alpha**0.5
    towards_x = max(1.0 - alpha_prev - eta**2 * variance, 0.0)  # rounding may take it below 0
    mean: Tensor = alpha_prev**0.5 * clean + towards_x**0.5 * noise
    return mean


def guide(unconditional: Tensor, conditional: Tensor, scale: float, where: Tensor | None = None) -> Tensor:
    """Classifier-free guidance, e_u + m w (e_c - e_u), within the edit mask m (Pérez-García et al., 2024).

    Args:
        unconditional: e_u, (N, C, h, w).
        conditional: e_c, same shape.
        scale: w.
        where: m, (N, 1, h, w) in [0, 1]; None is everywhere.
    """
    step = scale * (conditional - unconditional)
    return unconditional + (step if where is None else where * step)
