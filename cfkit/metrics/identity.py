"""Identity: how much of the film is still the same?"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from ..anatomy import BONES, STRUCTURES
from .case_mean import CaseMean


class MeanAbsoluteChange(CaseMean):
    """L1: mean absolute change of the pixels, in grey levels of a film in [0, 1].

    >>> import torch
    >>> change = MeanAbsoluteChange()
    >>> change.update(torch.zeros(1, 1, 2, 2), torch.tensor([[[[0.4, 0.0], [0.0, 0.0]]]]))
    >>> change.compute()
    tensor(0.1000)
    """

    higher_is_better = False

    def update(self, factual: Tensor, counterfactual: Tensor) -> None:
        """Takes films (N, 1, H, W) in [0, 1]."""
        self.add((counterfactual - factual).abs().mean(dim=(1, 2, 3)))


class PeakSignalToNoise(CaseMean):
    """PSNR of the edit against its factual in dB, peak 1, at most 100; the mean over films.

    >>> import torch
    >>> psnr = PeakSignalToNoise()
    >>> psnr.update(torch.zeros(1, 1, 4, 4), torch.full((1, 1, 4, 4), 0.1))
    >>> psnr.compute()
    tensor(20.)
    """

    higher_is_better = True

    def update(self, factual: Tensor, counterfactual: Tensor) -> None:
        """Takes films (N, 1, H, W) in [0, 1]."""
        self.add(-10.0 * (counterfactual - factual).pow(2).mean(dim=(1, 2, 3)).clamp(min=1e-10).log10())


class StructuralSimilarity(CaseMean):
    """SSIM of the edit to its factual, Gaussian window (11 px, sigma 1.5), range 1, edges reflected; mean over films.

    Source: Wang et al., IEEE Transactions on Image Processing 2004.

    >>> import torch
    >>> similarity = StructuralSimilarity()
    >>> film = torch.rand(1, 1, 16, 16)
    >>> similarity.update(film, film)
    >>> similarity.compute()
    tensor(1.)
    """

    higher_is_better = True

    def update(self, factual: Tensor, counterfactual: Tensor) -> None:
        """Takes films (N, 1, H, W) in [0, 1], 11 pixels or more on a side."""
        value: Any = structural_similarity_index_measure(counterfactual, factual, data_range=1.0, reduction="none")
        self.add(value.reshape(len(factual)))


class PerceptualChange(CaseMean):
    """A distance in the feature maps of the judge, in the style of LPIPS but with no learnt weights.

    At each stage the maps are normalised over channels, and their squared distance is averaged over
    places; the stages are added. It is computed when a film is edited; this takes the result.

    Source: Zhang et al., CVPR 2018, without the linear layers.
    """

    higher_is_better = False

    def update(self, perceptual: Tensor) -> None:
        """Takes distances (N,)."""
        self.add(perceptual)


class BoneChange(CaseMean):
    """Mean absolute change within the bone mask of the factual, in grey levels of a film in [0, 1].

    The union of structures is the paper's (section A.3): identity lies in these.
    """

    higher_is_better = False

    def update(self, factual: Tensor, counterfactual: Tensor, structures: Tensor) -> None:
        """Takes films (N, 1, H, W) and the factual's structures (N, 14, H, W) bool."""
        bones = structures[:, list(BONES)].any(dim=1, keepdim=True)
        self.add(change_within((counterfactual - factual).abs(), bones).squeeze(1))


class StructureChange(CaseMean):
    """Mean absolute change within each of the 14 structures of the factual, NaN where a film has none of it."""

    higher_is_better = False
    columns = STRUCTURES

    def update(self, factual: Tensor, counterfactual: Tensor, structures: Tensor) -> None:
        """Takes films (N, 1, H, W) and the factual's structures (N, 14, H, W) bool."""
        self.add(change_within((counterfactual - factual).abs(), structures))


def change_within(change: Tensor, masks: Tensor) -> Tensor:
    """Mean of `change` (N, 1, H, W) within each mask (N, C, H, W): (N, C), NaN where a mask is empty."""
    weight = masks.to(change.dtype)
    return (change * weight).sum(dim=(2, 3)) / weight.sum(dim=(2, 3))
