"""Cheff's text-to-image checkpoint (saiboxx/chexray-diffusion): a U-Net with cross-attention and its text encoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UserError
from .checkpoints import load_exactly, weights_of
from .cheff import CheffAutoencoder, rename_unet, strip_checkpoint, unet_shape
from .text_to_image import TextDenoiser

SCALE = 0.18215  # of latents, where the file does not say
HEADS = 8


class Attention(nn.Module):
    """Self-attention of x-transformers: projections without bias, 64 channels a head."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, inner, bias=False) for _ in range(3))
        self.to_out = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            project(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for project in (self.to_q, self.to_k, self.to_v)
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out: Tensor = self.to_out(mixed)
        return out


class FeedForward(nn.Module):
    """Two layers with a GELU between."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.net = nn.Sequential(
            nn.Sequential(nn.Linear(width, inner), nn.GELU()), nn.Identity(), nn.Linear(inner, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out


class TextTransformer(nn.Module):
    """The transformer that Cheff trained on captions, named as in its file: tokens to context.

    Args:
        vocabulary: Tokens.
        length: Of a padded prompt.
        width: D of the context.
        depth: Layers.
        inner: Channels of the attention, all heads together.
    """

    def __init__(self, vocabulary: int, length: int, width: int, depth: int, inner: int):
        super().__init__()
        self.length = length
        self.token_emb = nn.Embedding(vocabulary, width)
        self.pos_emb = nn.ModuleDict({"emb": nn.Embedding(length, width)})
        layers = []
        for _ in range(depth):
            layers.append(nn.ModuleList([nn.LayerNorm(width), Attention(width, inner)]))
            layers.append(nn.ModuleList([nn.LayerNorm(width), FeedForward(width, 4 * width)]))
        self.attn_layers = nn.ModuleDict({"layers": nn.ModuleList(layers)})
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Context (N, L, D) of tokens (N, L)."""
        place: Any = self.pos_emb["emb"]
        x = self.token_emb(tokens) + place.weight[: tokens.shape[1]]
        layers: Any = self.attn_layers["layers"]
        for norm, block in layers:
            x = x + block(norm(x))
        out: Tensor = self.norm(x)
        return out


class CaptionContext(nn.Module):
    """Prompts to context, by BERT's word pieces; nothing is masked, padding takes part as in training."""

    def __init__(self, transformer: TextTransformer):
        super().__init__()
        self.transformer = transformer
        self.tokenizer: Any = None

    def forward(self, prompts: list[str]) -> Tensor:
        """Context (N, L, D) of N prompts."""
        if self.tokenizer is None:
            raise UserError("Cheff's text encoder has no vocabulary; import it with --vocabulary vocab.txt")
        rows = self.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.transformer.length,
            truncation=True,
            return_tensors="pt",
        )
        place = self.transformer.norm.weight.device
        context: Tensor = self.transformer(rows.input_ids.to(place))
        return context


class CheffTextToImage(nn.Module):
    """U-Net and text encoder, which were trained and are stored together."""

    def __init__(self, unet: dict[str, Any], text: dict[str, int]):
        super().__init__()
        self.denoiser = TextDenoiser(UNet2DConditionModel(**unet))
        self.text_encoder = CaptionContext(TextTransformer(**text))


class ScaledAutoencoder(nn.Module):
    """An autoencoder whose latents are scaled, as a text-to-image model was trained on them."""

    def __init__(self, autoencoder: CheffAutoencoder, factor: float):
        super().__init__()
        self.autoencoder, self.factor = autoencoder, factor

    def encode(self, images: Tensor) -> Tensor:
        """As `CheffAutoencoder.encode`, scaled."""
        return self.autoencoder.encode(images) * self.factor

    def decode(self, latents: Tensor) -> Tensor:
        """As `CheffAutoencoder.decode`, of scaled latents."""
        return self.autoencoder.decode(latents / self.factor)


def load_vocabulary(path: Path) -> Any:
    """BERT's word pieces from `vocab.txt`.

    Raises:
        UserError: It is not there, or transformers is not installed.
    """
    if not path.is_file():
        raise UserError(f"{path}: not found; copy vocab.txt of bert-base-uncased (Google, Apache-2.0)")
    try:
        from transformers import BertTokenizer
    except ImportError:
        raise UserError('Cheff\'s text encoder needs transformers; pip install "cfkit[cheff]"') from None
    return BertTokenizer(str(path), do_lower_case=True)


def convert_text_to_image(checkpoint: Mapping[str, Any]) -> tuple[CheffTextToImage, dict[str, Any], float]:
    """Cheff's text-to-image checkpoint.

    Returns:
        The model, the configuration that builds it again, and the factor of its latents.

    Raises:
        UserError: The shapes fit no such model; the first missing name is given.
    """
    state = strip_checkpoint(checkpoint, "diffusion_model.")
    unet = unet_shape(state)
    cross = next((v for k, v in state.items() if k.endswith("attn2.to_k.weight")), None)
    if cross is None:
        raise UserError("not a text-to-image U-Net: no attn2.to_k.weight; --unet takes the unconditional one")
    attends = unet.pop("attends")
    config: dict[str, Any] = unet | {
        "down_block_types": ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends],
        "up_block_types": ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)],
        "cross_attention_dim": cross.shape[1],
        "attention_head_dim": HEADS,  # diffusers means the number of heads
        "norm_eps": 1e-5,
    }
    text = {k.removeprefix("transformer."): v for k, v in strip_checkpoint(checkpoint, "cond_stage_model.").items()}
    text = {k: v for k, v in text.items() if not k.startswith("to_logits.")}
    if "token_emb.weight" not in text or "pos_emb.emb.weight" not in text:
        raise UserError("not Cheff's text-to-image file: cond_stage_model.transformer.token_emb.weight is missing")
    vocabulary, width = text["token_emb.weight"].shape
    numbers = [int(name.split(".")[2]) for name in text if name.startswith("attn_layers.layers.")]
    shape = {
        "vocabulary": vocabulary,
        "length": text["pos_emb.emb.weight"].shape[0],
        "width": width,
        "depth": (max(numbers) + 1) // 2,
        "inner": text["attn_layers.layers.0.1.to_q.weight"].shape[0],
    }
    model = CheffTextToImage(config, shape)
    load_exactly(model.denoiser.unet, rename_unet(state, unet["layers_per_block"] + 1), "text-to-image U-Net")
    load_exactly(model.text_encoder.transformer, text, "text encoder of Cheff")
    factor = weights_of(checkpoint).get("scale_factor", torch.tensor(SCALE))
    return model, {"unet": config, "text": shape}, float(factor)
