"""Inception-v3 features of the Fréchet distance (Heusel et al., NeurIPS 2017), from a local file."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from .checkpoints import bare_weights, load_exactly


class Inception(nn.Module):
    """torch-fidelity's port of the TensorFlow network, without its download."""

    def __init__(self) -> None:
        super().__init__()
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ImportError:
            raise UserError('Inception features need torch-fidelity; pip install "cfkit[cheff]"') from None

        class Unloaded(FeatureExtractorInceptionV3):  # type: ignore[misc]
            """Its constructor wants a file of weights; an empty one is no matter here."""

            def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
                return super().load_state_dict(state_dict, *args, **kwargs) if state_dict else None

        empty = BytesIO()
        torch.save({}, empty)
        empty.seek(0)
        self.net = Unloaded("inception-v3-compat", ["2048"], feature_extractor_weights_path=empty)

    @torch.no_grad()
    def pooled(self, films: Tensor) -> Tensor:
        """Features (N, 2048) of films (N, 1, H, W) in [0, 1], taken at 256 grey levels."""
        levels = (films.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8).expand(-1, 3, -1, -1)
        features: Tensor = self.net(levels)[0]
        return features


def convert_inception(checkpoint: Mapping[str, Any]) -> Inception:
    """The weights that pytorch-fid and torch-fidelity publish.

    Raises:
        UserError: The shapes fit no such network.
    """
    model = Inception()
    load_exactly(model.net, bare_weights(checkpoint), "Inception-v3 of the Fréchet distance")
    return model
