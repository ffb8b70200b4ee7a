"""Audit: how does a classifier of the user's own respond to edits that an independent judge sees?"""

from __future__ import annotations

import torch
from torch import Tensor

from .case_mean import CaseMean
from .validity import of_target


class AuditFlipRate(CaseMean):
    """The share of films that the audited classifier moves to the wanted side of 0.5, of those not there before."""

    higher_is_better = True

    def update(self, audited_before: Tensor, audited_after: Tensor, audited_target: Tensor, present: Tensor) -> None:
        """Takes probabilities (N, K), the target's column (N,) and what was wanted (N,) bool."""
        was, now = ((of_target(p, audited_target) > 0.5) == present for p in (audited_before, audited_after))
        self.add(torch.where(was, torch.nan, now.float()))


class AuditMargin(CaseMean):
    """How far the audited classifier's probability of the target moved, towards what was wanted: -1 to 1."""

    higher_is_better = True

    def update(self, audited_before: Tensor, audited_after: Tensor, audited_target: Tensor, present: Tensor) -> None:
        """Takes probabilities (N, K), the target's column (N,) and what was wanted (N,) bool."""
        rise = of_target(audited_after, audited_target) - of_target(audited_before, audited_target)
        self.add(torch.where(present, rise, -rise))


class AuditCollateral(CaseMean):
    """Mean absolute change of the audited classifier's probabilities of the findings that were to stay."""

    higher_is_better = False

    def update(self, audited_before: Tensor, audited_after: Tensor, audited_target: Tensor) -> None:
        """Takes probabilities (N, K) with K at least 2, and the target's column (N,)."""
        change = (audited_after - audited_before).abs().scatter(1, audited_target.unsqueeze(1), 0.0)
        self.add(change.sum(dim=1) / (change.shape[1] - 1) if change.shape[1] > 1 else change[:, 0] * torch.nan)


class AuditMissed(CaseMean):
    """Of the edits that the judge sees flip, the share that the audited classifier does not follow.

    >>> missed = AuditMissed()
    >>> column = torch.zeros(2, dtype=torch.long)
    >>> judge = torch.tensor([[0.1], [0.1]]), torch.tensor([[0.9], [0.9]])
    >>> own = torch.tensor([[0.2], [0.2]]), torch.tensor([[0.3], [0.8]])
    >>> missed.update(*judge, column, *own, column, torch.tensor([True, True]))
    >>> missed.compute()
    tensor(0.5000)
    """

    higher_is_better = False

    def update(
        self,
        judge_before: Tensor,
        judge_after: Tensor,
        target: Tensor,
        audited_before: Tensor,
        audited_after: Tensor,
        audited_target: Tensor,
        present: Tensor,
    ) -> None:
        """Takes both models' probabilities (N, K), the target's columns (N,) and what was wanted (N,) bool."""
        was, now = ((of_target(p, target) > 0.5) == present for p in (judge_before, judge_after))
        own_was, own_now = ((of_target(p, audited_target) > 0.5) == present for p in (audited_before, audited_after))
        counts = now & ~was & ~own_was  # the judge flips, and the classifier had something to flip
        self.add(torch.where(counts, (~own_now).float(), torch.nan))
