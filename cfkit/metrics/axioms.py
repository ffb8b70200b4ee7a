"""Axioms of counterfactuals: an edit that asks for nothing changes nothing, and one taken back is gone."""

from __future__ import annotations

from torch import Tensor

from .case_mean import CaseMean


class Composition(CaseMean):
    """L1 between a film and what comes of asking for what is already so, in grey levels of a film in [0, 1].

    Source: composition, Monteiro et al., ICLR 2023, one cycle.
    """

    higher_is_better = False

    def update(self, factual: Tensor, null_edit: Tensor) -> None:
        """Takes films (N, 1, H, W) in [0, 1]."""
        self.add((null_edit - factual).abs().mean(dim=(1, 2, 3)))


class Reversibility(CaseMean):
    """L1 between a film and what comes of editing it and taking the edit back.

    Source: reversibility, Monteiro et al., ICLR 2023, one cycle.

    >>> import torch
    >>> reversibility = Reversibility()
    >>> reversibility.update(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.125))
    >>> reversibility.compute()
    tensor(0.1250)
    """

    higher_is_better = False

    def update(self, factual: Tensor, returned: Tensor) -> None:
        """Takes films (N, 1, H, W) in [0, 1]."""
        self.add((returned - factual).abs().mean(dim=(1, 2, 3)))
