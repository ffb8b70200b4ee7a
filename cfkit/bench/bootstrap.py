"""Means over cases with their intervals: patients are drawn, with all their cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

DRAWS = 1000


def bootstrap_weights(patients: int, *, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """How often each patient is drawn, (draws, patients), drawing as many as there are."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(patients, np.full(patients, 1.0 / patients), size=draws) if patients else np.ones((draws, 0))


def values_and_draws(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over cases (C,) and their bootstrap draws (B, C), NaN left out, from (N, C) and (B, N)."""
    there = ~np.isnan(values)
    filled = np.where(there, values, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = (weights @ filled) / (weights @ there)
        means = filled.sum(axis=0) / there.sum(axis=0)
    return means, draws


def interval(draws: np.ndarray) -> tuple[float, float]:
    """The 2.5 % and 97.5 % quantiles of the draws that are numbers."""
    if np.isnan(draws).all():
        return float("nan"), float("nan")
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return float(low), float(high)


def means_over_patients(values: np.ndarray, patients: Sequence[str]) -> list[tuple[float, float, float]]:
    """Mean over cases and the ends of its 95 % interval, one a column of (N, C), the cases being of `patients`."""
    index = {patient: k for k, patient in enumerate(sorted(set(patients)))}
    means, draws = values_and_draws(values, bootstrap_weights(len(index))[:, [index[p] for p in patients]])
    return [(float(mean), *interval(draws[:, k])) for k, mean in enumerate(means)]


def resample(
    update: Callable[..., None],
    compute: Callable[[], Tensor],
    reset: Callable[[], None],
    inputs: Mapping[str, Tensor],
    weights: np.ndarray,
) -> np.ndarray:
    """Bootstrap draws of a metric that is no mean: it is computed again for each, (B,). The reference stays."""
    draws = []
    for row in weights:
        chosen = torch.from_numpy(np.repeat(np.arange(len(row)), row))
        reset()
        if len(chosen):
            update(**{name: x if name == "reference" else x[chosen] for name, x in inputs.items()})
        draws.append(float(compute()) if len(chosen) else np.nan)
    return np.array(draws)
