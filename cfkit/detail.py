"""From what an autoencoder decodes to a counterfactual at the film's own detail."""

from __future__ import annotations

from torch import Tensor


def compose(images: Tensor, decoded: Tensor, roundtrip: Tensor, *, restore_detail: bool, shrink: float) -> Tensor:
    """The counterfactual as the factual plus the change that a method made.

    Args:
        images: Factuals, (N, 1, H, W) in [0, 1], or any shape that the others broadcast with.
        decoded: What the method decodes, not clamped.
        roundtrip: The factual, encoded and decoded, not clamped.
        restore_detail: Put the change onto the factual itself rather than onto its round trip, so
            that what the autoencoder loses of the film is not part of the edit.
        shrink: Changes of fewer grey levels of [0, 1] vanish; see `shrink_change`.

    Returns:
        Films in [0, 1].
    """
    change = shrink_change(decoded - roundtrip, shrink)
    return ((images if restore_detail else roundtrip) + change).clamp(0.0, 1.0)


def shrink_change(change: Tensor, threshold: float) -> Tensor:
    """The non-negative garrote, c max(1 - t^2 / c^2, 0): small changes vanish, large ones stay.

    Between the soft threshold, L1's closed form, which takes t from every change, and the hard one,
    which jumps (Gao, J. Comput. Graph. Stat. 7, 1998).

    Args:
        change: In grey levels, any shape.
        threshold: t, 0 or more.

    >>> import torch
    >>> shrink_change(torch.tensor([0.01, -0.02, 0.04]), 0.02)
    tensor([0.0000, -0.0000, 0.0300])
    """
    if threshold == 0.0:
        return change
    return change * (1.0 - threshold**2 / change.pow(2).clamp(min=1e-12)).clamp(min=0.0)
