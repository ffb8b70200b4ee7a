"""COUT: how few of an edit's pixels does it take to move the judge?"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .case_mean import CaseMean

STEPS = 10


@torch.no_grad()
def insertion_curve(
    probability: Callable[[Tensor], Tensor], factual: Tensor, counterfactual: Tensor, *, steps: int = STEPS
) -> Tensor:
    """Probabilities as the edit's pixels enter the film, the most changed first.

    Args:
        probability: Films (N, 1, H, W) to the probability of what was wanted, (N,).
        factual: (N, 1, H, W).
        counterfactual: Same shape.
        steps: Equal shares of the pixels.

    Returns:
        (N, steps + 1), from the factual to the counterfactual.
    """
    change = (counterfactual - factual).abs().flatten(1)
    rank = change.argsort(dim=1, descending=True, stable=True).argsort(dim=1).view_as(factual)
    curve = []
    for k in range(steps + 1):
        entered = rank < round(k / steps * change.shape[1])
        curve.append(probability(torch.where(entered, counterfactual, factual)))
    return torch.stack(curve, dim=1)


class CounterfactualTransition(CaseMean):
    r"""COUT: area under the wanted class's insertion curve less that under the other's, -1 to 1.

    With two classes of probabilities p and 1 - p this is 2 AUPC(p) - 1, the area by the trapezoidal rule.

    Source: Khorram & Fuxin, "Cycle-Consistent Counterfactuals by Latent Transformations", CVPR 2022.

    >>> cout = CounterfactualTransition()
    >>> cout.update(torch.tensor([[0.0, 1.0, 1.0]]))
    >>> cout.compute()
    tensor(0.5000)
    """

    higher_is_better = True

    def update(self, transition: Tensor) -> None:
        """Takes curves (N, T + 1) as from `insertion_curve`."""
        self.add(2.0 * torch.trapezoid(transition, dim=1) / (transition.shape[1] - 1) - 1.0)
