"""The grid of timesteps that DDIM visits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import UserError


@dataclass(frozen=True)
class Grid:
    """Timesteps in rising order with the cumulative alphas at and below each.

    Attributes:
        timesteps: The S timesteps, rising.
        alphas: alpha-bar at each, (S,) in (0, 1].
        alphas_prev: alpha-bar one step below each, (S,).
    """

    timesteps: tuple[int, ...]
    alphas: tuple[float, ...]
    alphas_prev: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.timesteps)

    def up(self) -> Iterator[tuple[int, float, float]]:
        """(timestep, alpha below it, alpha at it), from clean to noisy: the order of inversion."""
        return iter(zip(self.timesteps, self.alphas_prev, self.alphas, strict=True))

    def down(self) -> Iterator[tuple[int, float, float]]:
        """(timestep, alpha at it, alpha below it), from noisy to clean: the order of denoising."""
        return reversed(list(zip(self.timesteps, self.alphas, self.alphas_prev, strict=True)))

    def without_noisiest(self, skip: float) -> Grid:
        """The grid without a share of its noisiest steps, at least one step.

        >>> Grid((1, 251, 501, 751), (0.9, 0.6, 0.3, 0.1), (0.99, 0.9, 0.6, 0.3)).without_noisiest(0.5).timesteps
        (1, 251)
        """
        count = max(round(len(self) * (1.0 - skip)), 1)
        return Grid(self.timesteps[:count], self.alphas[:count], self.alphas_prev[:count])


def ddim_grid(alphas_cumprod: Tensor, num_inference_steps: int, *, release: bool = False) -> Grid:
    """The leading grid with offset 1, as in diffusers and the public release.

    Args:
        alphas_cumprod: alpha-bar of every training timestep, (T,).
        num_inference_steps: S, from 1 to T - 1.
        release: Where S does not divide T, go on to the last timestep as the release does (77 steps
            for S = 75 and T = 1000) rather than stop after S as diffusers does.

    Raises:
        UserError: S is out of range.
    """
    total = len(alphas_cumprod)
    if not 1 <= num_inference_steps < total:
        raise UserError(f"num_inference_steps: {num_inference_steps} is not between 1 and {total - 1}")
    timesteps = range(1, total, total // num_inference_steps)
    if not release:
        timesteps = timesteps[:num_inference_steps]
    alphas = [float(alphas_cumprod[t]) for t in timesteps]
    return Grid(tuple(timesteps), tuple(alphas), (float(alphas_cumprod[0]), *alphas[:-1]))


def scheduler_grid(schedule: Any, num_inference_steps: int) -> Grid:
    """The grid of a diffusers scheduler, with the spacing and the final alpha-bar of its own configuration.

    A step leads to the scheduler's own next timestep, whether or not S divides T.

    Args:
        schedule: A diffusers scheduler of the DDIM family.
        num_inference_steps: S, from 1 to T.

    Raises:
        UserError: S is out of range.
    """
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler.from_config(schedule.config)
    total = len(scheduler.alphas_cumprod)
    if not 1 <= num_inference_steps <= total:
        raise UserError(f"num_inference_steps: {num_inference_steps} is not between 1 and {total}")
    scheduler.set_timesteps(num_inference_steps)
    # where rounding gives a trailing grid one step too many, that is timestep -1
    timesteps = tuple(reversed([int(t) for t in scheduler.timesteps if t >= 0]))
    if timesteps[-1] >= total:  # the offset of a leading grid that takes every timestep
        raise UserError(f"num_inference_steps: {num_inference_steps} leads past timestep {total - 1}; take fewer")
    alphas = tuple(float(scheduler.alphas_cumprod[t]) for t in timesteps)
    return Grid(timesteps, alphas, (float(scheduler.final_alpha_cumprod), *alphas[:-1]))
