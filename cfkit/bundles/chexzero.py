"""CheXzero (Tiu et al., Nature BME 2022): CLIP in OpenAI's layout, fine-tuned on films and reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UserError
from .checkpoints import bare_weights, load_exactly

MEAN, STD = 101.48761, 83.43944  # of its training films, in grey levels
CONTEXT = 77


class CheXzero(nn.Module):
    """Films and prompts to features of one space.

    Args:
        config: Arguments of open_clip's CLIP.
    """

    def __init__(self, **config: Any):
        super().__init__()
        try:
            from open_clip import CLIP
            from open_clip.tokenizer import SimpleTokenizer
        except ImportError:
            raise UserError('CheXzero needs open_clip; pip install "cfkit[cheff]"') from None
        self.net = CLIP(**config)
        self.size = int(config["vision_cfg"]["image_size"])
        self.tokenizer = SimpleTokenizer(context_length=CONTEXT)

    def pooled(self, films: Tensor) -> Tensor:
        """Features (N, D) of films (N, 1, H, W) in [0, 1], before normalising."""
        x = (films.clamp(0.0, 1.0) * 255.0 - MEAN) / STD
        if x.shape[-2:] != (self.size, self.size):
            x = F.interpolate(x, size=(self.size, self.size), mode="bicubic", antialias=True, align_corners=False)
        features: Tensor = self.net.encode_image(x.expand(-1, 3, -1, -1))
        return features

    def image_features(self, films: Tensor) -> Tensor:
        """The same, normalised."""
        return F.normalize(self.pooled(films), dim=-1)

    def tokens(self, prompts: Sequence[str]) -> Tensor:
        """Tokens (N, 77) of prompts."""
        tokens: Tensor = self.tokenizer(list(prompts))
        return tokens

    def text_features(self, prompts: Sequence[str]) -> Tensor:
        """Normalised features (N, D) of prompts."""
        place = next(self.parameters()).device
        features: Tensor = self.net.encode_text(self.tokens(prompts).to(place))
        return F.normalize(features, dim=-1)


def convert_chexzero(checkpoint: Mapping[str, Any]) -> tuple[CheXzero, dict[str, Any]]:
    """A CLIP in OpenAI's layout, and the configuration that builds it again; widths are told by the shapes.

    Raises:
        UserError: It is no CLIP with a vision transformer.
    """
    state = bare_weights(checkpoint)
    for name in ("input_resolution", "context_length", "vocab_size"):
        state.pop(name, None)
    try:
        config = _config(state)
    except KeyError as error:
        raise UserError(f"not a CLIP with a vision transformer: {error.args[0]} is missing") from None
    model = CheXzero(**config)
    load_exactly(model.net, state, "CLIP in OpenAI's layout")
    return model, config


def _config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    vision, text = state["visual.conv1.weight"].shape[0], state["ln_final.weight"].shape[0]
    patch = state["visual.conv1.weight"].shape[-1]
    grid = round((state["visual.positional_embedding"].shape[0] - 1) ** 0.5)
    return {
        "embed_dim": state["text_projection"].shape[1],
        "vision_cfg": {
            "layers": _depth(state, "visual.transformer."),
            "width": vision,
            "head_width": min(64, vision),
            "patch_size": patch,
            "image_size": patch * grid,
        },
        "text_cfg": {
            "context_length": state["positional_embedding"].shape[0],
            "vocab_size": state["token_embedding.weight"].shape[0],
            "width": text,
            "heads": max(text // 64, 1),
            "layers": _depth(state, "transformer."),
        },
        "quick_gelu": True,
    }


def _depth(state: Mapping[str, Tensor], stem: str) -> int:
    start = f"{stem}resblocks."
    return 1 + max(int(name.removeprefix(start).split(".")[0]) for name in state if name.startswith(start))
