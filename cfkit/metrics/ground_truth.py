"""Ground truth: virtual patients have a true counterfactual, to which an edit is compared."""

from __future__ import annotations

from torch import Tensor

from .case_mean import CaseMean
from .identity import change_within

TRUE_CHANGE = 0.02  # grey levels: the true counterfactual differs from the factual where it differs by more


class TruthError(CaseMean):
    """Mean absolute error to the true counterfactual, in grey levels of a film in [0, 1].

    >>> import torch
    >>> error = TruthError()
    >>> error.update(torch.full((1, 1, 2, 2), 0.5), torch.full((1, 1, 2, 2), 0.75))
    >>> error.compute()
    tensor(0.2500)
    """

    higher_is_better = False

    def update(self, counterfactual: Tensor, truth: Tensor) -> None:
        """Takes films (N, 1, H, W) in [0, 1]."""
        self.add((counterfactual - truth).abs().mean(dim=(1, 2, 3)))


class NearerToTruth(CaseMean):
    """The share of films whose edit is nearer to the true counterfactual than the factual was, in L1."""

    higher_is_better = True

    def update(self, factual: Tensor, counterfactual: Tensor, truth: Tensor) -> None:
        """Takes films (N, 1, H, W) in [0, 1]."""
        error, none = ((x - truth).abs().mean(dim=(1, 2, 3)) for x in (counterfactual, factual))
        self.add(error < none)


class ChangeInside(CaseMean):
    """Mean absolute change where the true counterfactual differs from the factual; more is better, up to its own."""

    higher_is_better = True

    def update(self, factual: Tensor, counterfactual: Tensor, truth: Tensor) -> None:
        """Takes films (N, 1, H, W) in [0, 1]."""
        self.add(change_within((counterfactual - factual).abs(), true_difference(factual, truth)).squeeze(1))


class ChangeOutside(CaseMean):
    """Mean absolute change where the true counterfactual is as the factual."""

    higher_is_better = False

    def update(self, factual: Tensor, counterfactual: Tensor, truth: Tensor) -> None:
        """Takes films (N, 1, H, W) in [0, 1]."""
        self.add(change_within((counterfactual - factual).abs(), ~true_difference(factual, truth)).squeeze(1))


class ChangeDice(CaseMean):
    """Dice of where an edit changed a film and where it should have, both over `TRUE_CHANGE` grey levels.

    >>> import torch
    >>> dice = ChangeDice()
    >>> factual = torch.zeros(1, 1, 1, 4)
    >>> dice.update(factual, torch.tensor([[[[0.5, 0.5, 0.0, 0.0]]]]), torch.tensor([[[[0.5, 0.0, 0.0, 0.0]]]]))
    >>> dice.compute()  # 2 x 1 / (2 + 1)
    tensor(0.6667)
    """

    higher_is_better = True

    def update(self, factual: Tensor, counterfactual: Tensor, truth: Tensor) -> None:
        """Takes films (N, 1, H, W) in [0, 1]."""
        made, wanted = (true_difference(factual, x).flatten(1) for x in (counterfactual, truth))
        self.add(2.0 * (made & wanted).sum(dim=1) / (made.sum(dim=1) + wanted.sum(dim=1)))


def true_difference(factual: Tensor, other: Tensor) -> Tensor:
    """Where two films differ, (N, 1, H, W) bool."""
    return (other - factual).abs() > TRUE_CHANGE
