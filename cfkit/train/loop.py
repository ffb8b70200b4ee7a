"""One training loop for every part: seeded, resumable, with an average of the weights."""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

CHECKPOINT_SECONDS = 60.0


def fit(
    module: nn.Module,
    loss: Callable[[nn.Module, int, torch.Generator], Tensor],
    *,
    steps: int,
    path: Path,
    lr: float = 1e-3,
    weight_decay: float = 1e-4,
    average: float = 0.998,
    seed: int = 0,
    report: Callable[[str], None] = print,
) -> nn.Module:
    """Trains a module with AdamW, warm-up and cosine decay; goes on from the checkpoint at `path`.

    Each step draws from a generator seeded with (seed, step), so that an interrupted run sees the
    same batches as one that was not.

    Args:
        module: What to train, in place.
        loss: Called with the module, the step and its generator; returns a scalar.
        steps: Updates in all.
        path: The checkpoint; written about once a minute, beside and then renamed.
        average: Decay of the exponential moving average of the weights.

    Returns:
        A copy with the averaged weights, in eval mode.
    """
    averaged = copy.deepcopy(module).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(module.parameters(), lr=lr, weight_decay=weight_decay, betas=(0.9, 0.99))
    start = 0
    if path.exists():
        state = torch.load(path, weights_only=True)
        module.load_state_dict(state["module"])
        averaged.load_state_dict(state["averaged"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    module.train()
    saved = begun = time.monotonic()
    recent: list[float] = []
    for step in range(start, steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * step / steps)) + 1e-6
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        value = loss(module, step, generator)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        decay = min(average, (step + 1) / (step + 10))
        with torch.no_grad():
            for mean, now in zip(averaged.state_dict().values(), module.state_dict().values(), strict=True):
                mean.lerp_(now, 1.0 - decay) if mean.is_floating_point() else mean.copy_(now)
        recent.append(float(value.detach()))
        now_s = time.monotonic()
        if now_s - saved > CHECKPOINT_SECONDS or step == steps - 1:
            saved = now_s
            state = {
                "module": module.state_dict(),
                "averaged": averaged.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step + 1,
            }
            torch.save(state, path.with_suffix(".part"))
            os.replace(path.with_suffix(".part"), path)
            rate = (step + 1 - start) / (now_s - begun)
            report(f"{path.stem}: step {step + 1}/{steps}, loss {sum(recent) / len(recent):.4f}, {rate:.2f} steps/s")
            recent = []
    return averaged
