"""Fréchet distance between edits and films that are as the edits were to become."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


def frechet_distance(a: Tensor, b: Tensor) -> Tensor:
    r"""|mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)) of features (N, D) and (M, D), in double precision.

    The trace of the root is the sum of the singular values of A B^T, where S_a = A^T A and S_b = B^T B:
    with few films that is a small matrix, and no root of a singular one is taken.

    Source: Heusel et al., NeurIPS 2017. NaN where either has fewer than two rows.

    >>> a = torch.tensor([[0.0], [2.0]])
    >>> frechet_distance(a, a + 3.0)
    tensor(9., dtype=torch.float64)
    """
    if len(a) < 2 or len(b) < 2:
        return torch.tensor(torch.nan, dtype=torch.float64)
    a, b = a.double(), b.double()
    shift = (a.mean(dim=0) - b.mean(dim=0)).pow(2).sum()
    a, b = ((x - x.mean(dim=0)) / (len(x) - 1) ** 0.5 for x in (a, b))
    if len(b) > b.shape[1]:  # the same S_b from fewer rows
        b = torch.linalg.qr(b, mode="r").R
    distance: Tensor = shift + a.pow(2).sum() + b.pow(2).sum() - 2.0 * torch.linalg.svdvals(a @ b.T).sum()
    return distance.clamp(min=0.0)


class FrechetDistance(Metric):
    """Fréchet distance of edits to real films with, or without, the target.

    The name of the feature extractor belongs beside every value: distances in different features do
    not compare. With fewer films than features the estimate is biased upwards, so compare equal numbers.

    Source: Gökmen & Konukoglu, section 4.3; Heusel et al., NeurIPS 2017.

    >>> distance = FrechetDistance()
    >>> distance.update(torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [2.0]]))
    >>> distance.compute()
    tensor(0., dtype=torch.float64)
    """

    is_differentiable = False
    full_state_update = False
    higher_is_better = False
    edits: list[Tensor]
    real: list[Tensor]

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.add_state("edits", default=[], dist_reduce_fx="cat")
        self.add_state("real", default=[], dist_reduce_fx="cat")

    def update(self, features_after: Tensor, reference: Tensor) -> None:
        """Takes features of edits (N, D) and of real films (M, D); either may be empty, (0, D)."""
        self.edits.append(features_after)
        self.real.append(reference)

    def compute(self) -> Tensor:
        """The distance, 0 or more; NaN with fewer than two of either."""
        if not len(self.edits):
            return torch.tensor(torch.nan, dtype=torch.float64)
        return frechet_distance(dim_zero_cat(self.edits), dim_zero_cat(self.real))
