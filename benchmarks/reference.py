"""How the published code does the three edits, written anew: what `benchmarks/speed.py` measures cfkit against.

One film at a time, with the costs that the published loops pay: whole models copied for each film,
gradients for every weight, graphs that are kept, every step inverted whether it is replayed or not.
The numbers agree with the originals' (tests/benchmarks/test_reference.py).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cfkit.diffusion import Grid

CLASSIFICATION, RECONSTRUCTION, ANCHOR, TEMPERATURE = 1.5, 0.1, 0.01, 1.5
TRAINED = (".attentions.", "conv_in.")


def released_edit(
    models: Any,
    source: Tensor,
    start: Tensor,
    *,
    grid: Grid,
    mask: Tensor,
    target: int,
    present: bool,
    epochs: int,
    lr: float,
    noises: Iterator[Tensor],
    step_done: Callable[[], None] = lambda: None,
) -> tuple[Tensor, Tensor]:
    """The public release's fine-tuning of one film (Gökmen & Konukoglu).

    Args:
        models: Has `denoiser`, `autoencoder` and `classifier`.
        source: Latent of the factual, (1, C, h, w).
        start: The same, inverted.
        grid: DDIM timesteps.
        mask: 1 where the film is kept, (1, 1, h, w).
        target: Index of the finding.
        present: Whether it is to be there.
        epochs: Passes.
        lr: Of Adam.
        noises: What the kept region is noised with, (1, C, h, w) a step.
        step_done: Called after each step.

    Returns:
        The edited latent (1, C, h, w), and the losses, (steps, 4): total, soft-KL, latent L1, anchor.
    """
    denoiser, autoencoder, classifier = (
        copy.deepcopy(part).requires_grad_(True) for part in (models.denoiser, models.autoencoder, models.classifier)
    )
    trained = [p for name, p in denoiser.named_parameters() if any(part in name for part in TRAINED)]
    optimizer = torch.optim.Adam(trained, lr=lr)
    original = classifier(autoencoder.decode(source).clamp(0.0, 1.0)).detach()
    others = [k for k in range(original.shape[1]) if k != target]
    losses = []
    x = start
    for _ in range(epochs):
        x = start
        for timestep, alpha, below in grid.down():
            noised = alpha**0.5 * source + (1.0 - alpha) ** 0.5 * next(noises)
            x = noised * mask + (1.0 - mask) * x
            noise = denoiser(x, torch.full((1,), timestep, dtype=torch.long, device=x.device))
            clean = (x - (1.0 - alpha) ** 0.5 * noise) / alpha**0.5
            x = below**0.5 * clean + (1.0 - below) ** 0.5 * noise
            logits = classifier(autoencoder.decode(clean).clamp(0.0, 1.0))
            kl = _soft_kl(logits, target, present)
            distance = F.l1_loss(clean, source)
            kept = F.mse_loss(logits[:, others], original[:, others]) if others else logits.sum() * 0.0
            total = CLASSIFICATION * kl + RECONSTRUCTION * distance + ANCHOR * kept
            optimizer.zero_grad()
            total.backward(retain_graph=True)
            optimizer.step()
            x = x.detach()
            losses.append(torch.stack([total, kl, distance, kept]).detach())
            step_done()
    return x, torch.stack(losses)


def _soft_kl(logits: Tensor, target: int, present: bool) -> Tensor:
    log_p = F.log_softmax(logits / TEMPERATURE, dim=1)
    wanted = log_p.detach().exp()
    row = wanted[0].clone()
    row[target] = row.max() if present else row.min()
    return F.kl_div(log_p, (row / row.sum()).unsqueeze(0), reduction="batchmean") * TEMPERATURE**2


@torch.no_grad()
def released_inversion(denoiser: Any, source: Tensor, grid: Grid) -> list[Tensor]:
    """DDIM inversion of one film as the release does it: S + 1 latents (1, C, h, w), the noisiest last."""
    path = [source]
    for timestep, below, alpha in grid.up():
        x = path[-1]
        noise = denoiser(x, torch.full((1,), timestep, dtype=torch.long, device=x.device))
        clean = (x - (1.0 - below) ** 0.5 * noise) / below**0.5
        path.append(alpha**0.5 * clean + (1.0 - alpha) ** 0.5 * noise)
    return path


@torch.no_grad()
def plain_radedit(
    parts: Any, image: Tensor, prompt: str, *, grid: Grid, replayed: int, keep: Tensor, scale: float, seed: int
) -> Tensor:
    """Edit-friendly DDPM inversion of every step, two predictions a step, then the replay of one film.

    Args:
        parts: Has `denoiser`, `autoencoder` and `text_encoder`.
        image: (1, 1, H, W) in [0, 1].
        prompt: What is wanted; the inversion has an empty one.
        grid: All timesteps.
        replayed: How many of them are replayed.
        keep: 1 where the film is kept, (1, 1, h, w).
        scale: Guidance.
        seed: Of the path's noise.

    Returns:
        The edited film, (1, 1, H, W), not clamped.
    """
    generator = torch.Generator().manual_seed(seed)
    source = parts.autoencoder.encode(image)
    base, wanted = parts.text_encoder([""]), parts.text_encoder([prompt])
    path = [source]
    for alpha in grid.alphas:
        noise = torch.randn(source.shape[1:], generator=generator).to(source).unsqueeze(0)
        path.append(alpha**0.5 * source + (1.0 - alpha) ** 0.5 * noise)

    def mean(x: Tensor, step: int, guidance: float) -> Tensor:
        timestep, alpha, below = grid.timesteps[step], grid.alphas[step], grid.alphas_prev[step]
        t = torch.full((1,), timestep, dtype=torch.long, device=x.device)
        unconditional, conditional = parts.denoiser(x, t, base), parts.denoiser(x, t, wanted)
        noise = unconditional + guidance * (conditional - unconditional)
        variance = (1.0 - below) / (1.0 - alpha) * (1.0 - alpha / below)
        clean = (x - (1.0 - alpha) ** 0.5 * noise) / alpha**0.5
        return below**0.5 * clean + max(1.0 - below - variance, 0.0) ** 0.5 * noise  # type: ignore[no-any-return]

    innovations = {step: path[step] - mean(path[step + 1], step, 0.0) for step in reversed(range(len(grid)))}
    x = path[replayed]
    for step in reversed(range(replayed)):
        x = mean(x, step, scale) + innovations[step]
        x = keep * path[step] + (1.0 - keep) * x
    return parts.autoencoder.decode(x)  # type: ignore[no-any-return]


def published_latent_shift(
    models: Any, image: Tensor, target: int, *, step: float, stop_pixels: float, stop_shift: float, frames: int = 10
) -> tuple[list[float], Tensor]:
    """Latent shift of one film towards a finding's absence: the published search, then its sweep.

    Args:
        models: Has `autoencoder` and `classifier`.
        image: (1, 1 or 3, H, W) in [0, 1].
        target: Index of the finding.
        step: First step of the search.
        stop_pixels: Share of the film's sum that the change may reach.
        stop_shift: Where the search ends at the latest.
        frames: Of the sweep.

    Returns:
        The shifts of the sweep, from the furthest to 0, and its frames, (F, 1 or 3, H, W).
    """
    autoencoder, classifier = models.autoencoder, models.classifier
    z = autoencoder.encode(image).detach().requires_grad_(True)
    decoded = autoencoder.decode(z)
    prediction = torch.sigmoid(classifier(decoded))[:, target]
    (gradient,) = torch.autograd.grad(prediction.sum(), z, retain_graph=True)

    @lru_cache(None)
    def shifted(amount: float) -> tuple[Tensor, float]:
        film = autoencoder.decode(z + gradient * amount)  # its graph is built, as published
        return film.detach(), torch.sigmoid(classifier(film))[0, target].item()

    reference, initial = shifted(0.0)
    allowed = stop_pixels * float((2.0 * reference - 1.0).abs().sum())
    bound, last = 0.0, initial
    while True:
        film, current = shifted(bound)
        change = 2.0 * float((film - reference).abs().sum())
        reached = current < 0.05 or initial - current > 0.8 or bound <= -stop_shift
        if reached or current > last or change > allowed:
            break
        last = current
        bound = bound - step + math.floor(bound / 10)
    shifts = [bound * (1.0 - k / (frames - 1)) for k in range(frames)]
    return shifts, torch.cat([shifted(amount)[0] for amount in shifts])
