"""Diffusion as pure functions: grids, DDIM and DDPM steps and inversion, guidance, blending, per-film weights."""

from .blending import add_noise, blend, draw_noise
from .ddim import ddim_step, denoise, invert
from .ddpm import guide, noisy_path, posterior_mean
from .per_film import per_film, trained_layers
from .schedule import Grid, ddim_grid, scheduler_grid

__all__ = [
    "Grid",
    "add_noise",
    "blend",
    "ddim_grid",
    "ddim_step",
    "denoise",
    "draw_noise",
    "guide",
    "invert",
    "noisy_path",
    "per_film",
    "posterior_mean",
    "scheduler_grid",
    "trained_layers",
]
