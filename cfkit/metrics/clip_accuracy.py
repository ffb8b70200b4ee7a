"""CLIP accuracy: does a vision-language model see the edit's end as it was wanted?"""

from __future__ import annotations

from torch import Tensor

from .case_mean import CaseMean


class ClipAccuracy(CaseMean):
    r"""The share of edits that lie nearer to the wanted prompt.

    With normalised features f of the edit, f+ of "{Finding}" and f- of "No {Finding}", an edit is
    right where f · (f+ - f-) is positive for synthesis and negative for removal.

    Source: Gökmen & Konukoglu, section 4.3, after Tiu et al., Nature Biomedical Engineering 2022.

    >>> import torch
    >>> accuracy = ClipAccuracy()
    >>> accuracy.update(
    ...     clip_after=torch.tensor([[1.0, 0.0], [0.6, 0.8]]),
    ...     clip_positive=torch.tensor([[1.0, 0.0], [1.0, 0.0]]),
    ...     clip_negative=torch.tensor([[0.0, 1.0], [0.0, 1.0]]),
    ...     present=torch.tensor([True, True]),
    ... )
    >>> accuracy.compute()
    tensor(0.5000)
    """

    higher_is_better = True

    def update(self, clip_after: Tensor, clip_positive: Tensor, clip_negative: Tensor, present: Tensor) -> None:
        """Takes features (N, D), normalised, and what was wanted, (N,) bool."""
        margin = (clip_after * (clip_positive - clip_negative)).sum(dim=1)
        self.add((margin > 0) == present)
