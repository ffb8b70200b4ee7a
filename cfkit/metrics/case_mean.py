"""The mean over cases of a value each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class CaseMean(Metric):
    """The mean over cases; what each case contributes is kept, so that cases can be resampled and paired.

    A subclass's `update` calls `add`. NaN stands for a case to which the measure does not apply.

    Attributes:
        columns: Names, where each case has several values; the mean is then one by column.

    >>> class Least(CaseMean):
    ...     def update(self, counterfactual):
    ...         self.add(counterfactual.amin(dim=(1, 2, 3)))
    >>> least = Least()
    >>> least.update(torch.tensor([0.25, 0.75]).view(2, 1, 1, 1))
    >>> least.compute()
    tensor(0.5000)
    """

    is_differentiable = False
    full_state_update = False
    columns: tuple[str, ...] = ()
    values: list[Tensor]

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.add_state("values", default=[], dist_reduce_fx="cat")

    def add(self, values: Tensor) -> None:
        """Takes one value a case, (N,), or one a column, (N, C)."""
        self.values.append(values.detach().float())

    def case_values(self) -> Tensor:
        """What each case contributed, in the order of the updates: (N,) or (N, C)."""
        if not len(self.values):
            return torch.empty(0, len(self.columns)) if self.columns else torch.empty(0)
        return dim_zero_cat(self.values)

    def compute(self) -> Tensor:
        """The mean, NaN where there is no case; (C,) where there are columns."""
        return torch.nanmean(self.case_values(), dim=0)
