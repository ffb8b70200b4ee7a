"""torchxrayvision's segmenter of 14 structures (Lian et al., IEEE TMI 2021), from a local file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..anatomy import STRUCTURES
from ..errors import UserError
from ..film import resize
from .checkpoints import bare_weights, load_exactly

SIZE = 512
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class PspSegmenter(nn.Module):
    """The PSPNet of torchxrayvision, built without its download."""

    def __init__(self) -> None:
        super().__init__()
        try:
            from torchxrayvision.baseline_models.chestx_det.ptsemseg.pspnet import pspnet
        except ImportError:
            raise UserError('the PSPNet segmenter needs torchxrayvision; pip install "cfkit[cheff]"') from None
        self.net = pspnet(len(STRUCTURES))

    def forward(self, films: Tensor) -> Tensor:
        """Probabilities (N, 14, H, W) of films (N, 1, H, W) in [0, 1]."""
        x = F.interpolate(films, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
        mean, std = (torch.tensor(v, device=films.device).view(1, 3, 1, 1) for v in (MEAN, STD))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*upsample.*")  # their network uses an old name
            probabilities = torch.sigmoid(self.net((x - mean) / std))
        return resize(probabilities, (films.shape[-2], films.shape[-1]))


def convert_segmenter(checkpoint: Mapping[str, Any]) -> PspSegmenter:
    """The released PSPNet.

    Raises:
        UserError: The shapes fit no PSPNet of 14 structures.
    """
    model = PspSegmenter()
    load_exactly(model.net, bare_weights(checkpoint), "PSPNet of 14 structures")
    return model
