"""Validity: does an independent judge see the finding change?"""

from __future__ import annotations

import torch
from torch import Tensor

from .case_mean import CaseMean


def of_target(probabilities: Tensor, target: Tensor) -> Tensor:
    """The target's column: (N,) from (N, K) and indices (N,)."""
    return probabilities.gather(1, target.unsqueeze(1)).squeeze(1)


class FlipRate(CaseMean):
    """The share of films that the judge moves to the wanted side of 0.5, of those that were not there before.

    The judge is a classifier of another architecture and other training patients, never seen by an editor
    (Hvilshøj et al., 2021: the guiding classifier can be fooled by changes that nobody sees).

    Source: effectiveness, Monteiro et al., ICLR 2023.

    >>> rate = FlipRate()
    >>> before, after = torch.tensor([[0.9], [0.8], [0.2]]), torch.tensor([[0.1], [0.7], [0.1]])
    >>> rate.update(before, after, torch.tensor([0, 0, 0]), torch.tensor([False, False, False]))
    >>> rate.compute()  # the third film had nothing to flip
    tensor(0.5000)
    """

    higher_is_better = True

    def update(self, judge_before: Tensor, judge_after: Tensor, target: Tensor, present: Tensor) -> None:
        """Takes probabilities (N, K), the target's column (N,) and what was wanted (N,) bool."""
        was, now = ((of_target(p, target) > 0.5) == present for p in (judge_before, judge_after))
        self.add(torch.where(was, torch.nan, now.float()))


class JudgeMargin(CaseMean):
    """How far the judge's probability of the target moved, towards what was wanted: -1 to 1.

    >>> margin = JudgeMargin()
    >>> margin.update(torch.tensor([[0.9]]), torch.tensor([[0.2]]), torch.tensor([0]), torch.tensor([False]))
    >>> margin.compute()
    tensor(0.7000)
    """

    higher_is_better = True

    def update(self, judge_before: Tensor, judge_after: Tensor, target: Tensor, present: Tensor) -> None:
        """Takes probabilities (N, K), the target's column (N,) and what was wanted (N,) bool."""
        rise = of_target(judge_after, target) - of_target(judge_before, target)
        self.add(torch.where(present, rise, -rise))


class CollateralChange(CaseMean):
    """Mean absolute change of the judge's probabilities of the findings that were to stay.

    >>> change = CollateralChange()
    >>> before, after = torch.tensor([[0.9, 0.5, 0.5]]), torch.tensor([[0.1, 0.7, 0.5]])
    >>> change.update(before, after, torch.tensor([0]))
    >>> change.compute()
    tensor(0.1000)
    """

    higher_is_better = False

    def update(self, judge_before: Tensor, judge_after: Tensor, target: Tensor) -> None:
        """Takes probabilities (N, K) with K at least 2, and the target's column (N,)."""
        change = (judge_after - judge_before).abs().scatter(1, target.unsqueeze(1), 0.0)
        self.add(change.sum(dim=1) / (change.shape[1] - 1))
