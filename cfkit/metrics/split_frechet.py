"""sFID: the Fréchet distance without the advantage of comparing edits with their own factuals."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from .frechet import frechet_distance


class SplitFrechetDistance(Metric):
    """Edits of one half of the films against the factuals of the other half, both ways, over random halves.

    An edit that changes little lies near its own factual; against the factuals of other films it has to
    look real in its own right.

    Source: Jeanneret et al., "Adversarial Counterfactual Visual Explanations" (ACE), CVPR 2023, sFID.

    Args:
        splits: Random halvings that are averaged.

    >>> distance = SplitFrechetDistance(splits=2)
    >>> f = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    >>> distance.update(f + 5.0, f)
    >>> bool(60 < distance.compute() < 90)  # 3 x 5^2
    True
    """

    is_differentiable = False
    full_state_update = False
    higher_is_better = False
    edits: list[Tensor]
    factuals: list[Tensor]

    def __init__(self, splits: int = 10, **settings: Any) -> None:
        super().__init__(**settings)
        self.splits = splits
        self.add_state("edits", default=[], dist_reduce_fx="cat")
        self.add_state("factuals", default=[], dist_reduce_fx="cat")

    def update(self, features_after: Tensor, features_before: Tensor) -> None:
        """Takes features of edits and of their factuals, both (N, D)."""
        self.edits.append(features_after)
        self.factuals.append(features_before)

    def compute(self) -> Tensor:
        """The distance, 0 or more; NaN with fewer than four films."""
        if not len(self.edits):
            return torch.tensor(torch.nan, dtype=torch.float64)
        edits, factuals = dim_zero_cat(self.edits), dim_zero_cat(self.factuals)
        # halves follow the films' own features, not the order in which they came
        key = torch.argsort(factuals.double().sum(dim=1), stable=True)
        edits, factuals = edits[key], factuals[key]
        # a film that stands twice, with two seeds or in a bootstrap draw, has both in one half
        new = torch.ones(len(factuals), dtype=torch.bool, device=factuals.device)
        new[1:] = (factuals[1:] != factuals[:-1]).any(dim=1)
        film = new.cumsum(0) - 1
        count = int(new.sum())
        distances = []
        for k in range(self.splits):
            order = torch.randperm(count, generator=torch.Generator().manual_seed(k)).to(edits.device)
            second = torch.ones(count, dtype=torch.bool, device=edits.device)
            second[order[: count // 2]] = False
            a, b = (~second[film]).nonzero()[:, 0], second[film].nonzero()[:, 0]
            distances += [frechet_distance(edits[a], factuals[b]), frechet_distance(edits[b], factuals[a])]
        return torch.stack(distances).mean()
