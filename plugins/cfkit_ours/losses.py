"""The losses of the paper and of its public release, each one value a film."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def binary_cross_entropy(logits: Tensor, target: Tensor, present: Tensor) -> Tensor:
    """-log p for synthesis, -log(1 - p) for removal (equations 11 and 12), (N,).

    Args:
        logits: (N, K).
        target: Index of each film's finding, (N,).
        present: Whether it is to be there, (N,) bool.
    """
    logit = logits.gather(1, target.unsqueeze(1)).squeeze(1)
    return F.softplus(torch.where(present, -logit, logit))


def soft_kl(logits: Tensor, target: Tensor, present: Tensor, temperature: float) -> Tensor:
    """KL(q || p) times T squared at temperature T, as in the public release, (N,).

    p is the softmax over findings, q the same held constant with the target's entry set to the
    greatest (synthesis) or least (removal) of the row and renormalised.
    """
    log_p = F.log_softmax(logits / temperature, dim=1)
    p = log_p.detach().exp()
    extreme = torch.where(present, p.amax(dim=1), p.amin(dim=1))
    q = p.scatter(1, target.unsqueeze(1), extreme.unsqueeze(1))
    q = q / q.sum(dim=1, keepdim=True)
    return F.kl_div(log_p, q, reduction="none").sum(dim=1) * temperature**2


def anchor(logits: Tensor, source_logits: Tensor, target: Tensor) -> Tensor:
    """Mean squared change of the logits other than the target's, (N,)."""
    others = torch.ones_like(logits).scatter(1, target.unsqueeze(1), 0.0)
    squared = (logits - source_logits).pow(2) * others
    return squared.sum(dim=1) / (logits.shape[1] - 1) if logits.shape[1] > 1 else squared.sum(dim=1)
