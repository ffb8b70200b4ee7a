"""Diffusion as pure functions: grids, DDIM steps and inversion, blending, per-film weights."""

from .blending import add_noise, blend, draw_noise
from .ddim import ddim_step, denoise, invert
from .per_film import per_film, trained_layers
from .schedule import Grid, ddim_grid

__all__ = [
    "Grid",
    "add_noise",
    "blend",
    "ddim_grid",
    "ddim_step",
    "denoise",
    "draw_noise",
    "invert",
    "per_film",
    "trained_layers",
]
