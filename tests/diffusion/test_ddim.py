"""DDIM against diffusers' schedulers and the public release."""

import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler

from cfkit import UserError
from cfkit.diffusion import ddim_grid, ddim_step, denoise, invert

from ..golden_weights import golden, tiny_models

CONFIG = {
    "beta_start": 0.0015,
    "beta_end": 0.0295,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}


@pytest.mark.parametrize("steps", [10, 50, 75, 100])
def test_the_grid_is_the_release_s(steps):
    numbers = golden()
    grid = ddim_grid(numbers["alphas_cumprod"], steps, release=True)
    assert list(grid.timesteps) == numbers[f"ddim_timesteps_{steps}"].tolist()
    torch.testing.assert_close(torch.tensor(grid.alphas), numbers[f"ddim_alphas_{steps}"])
    torch.testing.assert_close(torch.tensor(grid.alphas_prev), numbers[f"ddim_alphas_prev_{steps}"])


@pytest.mark.parametrize("steps", [1, 7, 50, 75, 999])
def test_the_grid_is_diffusers_s(steps):
    scheduler = DDIMScheduler(**CONFIG)
    scheduler.set_timesteps(steps)
    assert list(ddim_grid(scheduler.alphas_cumprod, steps).timesteps) == scheduler.timesteps.flip(0).tolist()


@pytest.mark.parametrize("steps", [0, 1000, -3])
def test_a_step_count_out_of_range_is_refused(steps):
    with pytest.raises(UserError, match="num_inference_steps"):
        ddim_grid(DDIMScheduler(**CONFIG).alphas_cumprod, steps)


def test_steps_agree_with_diffusers_both_ways():
    down, up = DDIMScheduler(**CONFIG), DDIMInverseScheduler(**CONFIG)
    down.set_timesteps(20)
    up.set_timesteps(20)
    x, noise = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    grid = ddim_grid(down.alphas_cumprod, 20)
    for timestep, alpha, below in grid.down():
        torch.testing.assert_close(ddim_step(x, noise, alpha, below)[0], down.step(noise, timestep, x).prev_sample)
    for timestep, below, alpha in grid.up():
        torch.testing.assert_close(ddim_step(x, noise, below, alpha)[0], up.step(noise, timestep, x).prev_sample)


def test_inversion_and_back_agree_with_the_release():
    models, numbers = tiny_models(), golden()
    grid = ddim_grid(numbers["alphas_cumprod"], 10)
    trajectory = invert(models.denoiser, numbers["latent_mode"], grid)
    for ours, theirs in zip(trajectory, numbers["inversion_trajectory"], strict=True):
        assert (ours - theirs).abs().max() < 1e-3 * theirs.abs().max()
    back = denoise(models.denoiser, trajectory[-1], grid)
    expected = numbers["reconstruction_latent"]
    assert (back - expected).abs().mean() < 1e-3 * expected.abs().mean()


def test_a_constant_denoiser_is_inverted_exactly():
    noise = torch.randn(2, 3, 8, 8)
    grid = ddim_grid(golden()["alphas_cumprod"], 25)
    clean = torch.randn(2, 3, 8, 8)
    noisy = invert(lambda x, t: noise, clean, grid)[-1]
    torch.testing.assert_close(denoise(lambda x, t: noise, noisy, grid), clean, atol=1e-4, rtol=1e-4)
