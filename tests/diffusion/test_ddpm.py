"""Edit-friendly DDPM inversion in closed form and against diffusers."""

import pytest
import torch
from diffusers import DDIMScheduler

from cfkit import UserError
from cfkit.bundles.radedit import SCHEDULE
from cfkit.diffusion import guide, noisy_path, posterior_mean, scheduler_grid


def scheduler(**changes):
    return DDIMScheduler.from_config({**SCHEDULE, **changes})


def generators(count, seed=0):
    return [torch.Generator().manual_seed(seed + k) for k in range(count)]


@pytest.mark.parametrize("steps", [1, 7, 48, 75, 200, 1000])
def test_a_grid_is_the_schedulers_own(steps):
    grid = scheduler_grid(scheduler(), steps)
    reference = scheduler()
    reference.set_timesteps(steps)
    assert list(reversed(grid.timesteps)) == reference.timesteps.tolist()
    assert len(grid) == steps
    assert grid.timesteps[-1] == 999 and grid.alphas_prev[0] == 1.0


def test_every_number_of_steps_has_a_grid_of_its_length():
    for steps in range(1, 1001):
        grid = scheduler_grid(scheduler(), steps)
        assert len(grid) == steps and grid.timesteps[0] >= 0, steps


def test_a_grid_out_of_range_is_refused():
    with pytest.raises(UserError, match="between 1 and 1000"):
        scheduler_grid(scheduler(), 1001)
    with pytest.raises(UserError, match="past timestep 999"):
        scheduler_grid(scheduler(timestep_spacing="leading"), 1000)


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_the_mean_is_diffusers_own(eta):
    reference = scheduler()
    reference.set_timesteps(50)
    grid = scheduler_grid(reference, 50)
    x, noise = torch.randn(2, 1, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for timestep, alpha, below in list(grid.down())[:-1]:
        step = reference.step(noise, timestep, x, eta=eta, variance_noise=torch.zeros_like(x))
        assert (posterior_mean(x, noise, alpha, below, eta) - step.prev_sample).abs().max() < 1e-6


@pytest.mark.parametrize("steps", [3, 7, 50])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_path_replayed_with_its_own_predictions_ends_where_it_began(steps, eta):
    grid = scheduler_grid(scheduler(), steps)
    clean = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    path = noisy_path(clean, grid, generators(2))

    def predict(x):
        return torch.tanh(x)

    means = [
        posterior_mean(path[k], predict(path[k]), alpha, below, eta) for k, (_, below, alpha) in enumerate(grid.up(), 1)
    ]
    x = path[-1]
    for k, (_, alpha, below) in zip(range(len(grid), 0, -1), grid.down(), strict=True):
        x = path[k - 1] + (posterior_mean(x, predict(x), alpha, below, eta) - means[k - 1])
    assert x.isfinite().all()
    assert (x - clean).abs().max() < 1e-4


def test_the_noise_of_a_path_is_independent_and_of_the_right_size():
    grid = scheduler_grid(scheduler(), 10)
    path = noisy_path(torch.zeros(1, 4, 64, 64), grid, generators(1))
    noises = torch.stack([x.flatten() / (1 - a) ** 0.5 for x, a in zip(path[1:], grid.alphas, strict=True)])
    correlation = torch.corrcoef(noises)
    assert (correlation - torch.eye(10)).abs().max() < 0.04
    assert (noises.std(dim=1) - 1).abs().max() < 0.03


def test_a_films_path_does_not_depend_on_the_batch():
    grid = scheduler_grid(scheduler(), 5)
    clean = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(3))
    together = noisy_path(clean, grid, generators(3))
    alone = noisy_path(clean[1:2], grid, generators(1, seed=1))
    assert all(torch.equal(a[1:2], b) for a, b in zip(together, alone, strict=True))


def test_guidance_in_closed_form():
    unconditional, conditional = torch.tensor([[[[1.0, 1.0]]]]), torch.tensor([[[[3.0, 3.0]]]])
    where = torch.tensor([[[[1.0, 0.0]]]])
    assert guide(unconditional, conditional, 1.0).tolist() == [[[[3.0, 3.0]]]]
    assert guide(unconditional, conditional, 7.5, where).tolist() == [[[[16.0, 1.0]]]]
