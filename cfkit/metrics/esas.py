"""ESAS: did the edit move as the prompts do, and no further?"""

from __future__ import annotations

import torch
from torch import Tensor

from .case_mean import CaseMean


class EmbeddingShiftAlignment(CaseMean):
    r"""Embedding Shift Alignment Score: the squared distance between an edit and where it should be.

    With normalised features, f_dir = f+ - f- for synthesis and f- - f+ for removal (eq. 16),
    f_target = f_orig + f_dir (eq. 17), and the score is the mean over cases of the squared Euclidean
    norm of f_gen - f_target (eq. 18, in which the square of a vector is read as its squared norm).

    Source: Gökmen & Konukoglu, equations 16 to 18.

    >>> esas = EmbeddingShiftAlignment()
    >>> f = torch.tensor([[1.0, 0.0]])
    >>> esas.update(f, f, torch.tensor([[0.6, 0.8]]), torch.tensor([[0.8, 0.6]]), torch.tensor([True]))
    >>> esas.compute()  # |f_dir|^2, since nothing moved
    tensor(0.0800)
    """

    higher_is_better = False

    def update(
        self, clip_before: Tensor, clip_after: Tensor, clip_positive: Tensor, clip_negative: Tensor, present: Tensor
    ) -> None:
        """Takes features (N, D), normalised, and what was wanted, (N,) bool."""
        direction = clip_positive - clip_negative
        direction = torch.where(present.unsqueeze(1), direction, -direction)
        self.add((clip_after - clip_before - direction).pow(2).sum(dim=1))
