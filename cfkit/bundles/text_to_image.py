"""The parts of a RadEdit bundle: a text-conditional denoiser with its autoencoder and text encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .networks import VOCABULARY, WordEncoder


class TextDenoiser(nn.Module):
    """A diffusers U-Net with cross-attention as one call: latents, timesteps and context to noise."""

    def __init__(self, unet: nn.Module):
        super().__init__()
        self.unet = unet

    def forward(self, latents: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
        """Predicted noise (N, C, h, w) of latents (N, C, h, w), timesteps (N,) and context (N, L, D)."""
        predicted: Tensor = self.unet(latents, timesteps, encoder_hidden_states=context).sample
        return predicted


class PooledTextDenoiser(nn.Module):
    """A diffusers U-Net without cross-attention, told its prompt through the timestep's embedding.

    The mean of the prompt's words is added, projected, to the embedding of the timestep. The empty
    prompt adds nothing: there the U-Net is what it would be without text.
    """

    def __init__(self, unet: nn.Module, width: int):
        super().__init__()
        self.unet = unet  # a UNet2DModel with class_embed_type "identity"
        embedded: Any = unet.time_embedding
        self.project = nn.Linear(width, embedded.linear_2.out_features, bias=False)
        nn.init.zeros_(self.project.weight)

    def forward(self, latents: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
        """As `TextDenoiser.forward`; rows of the context that are zero are padding."""
        words = (context.abs().sum(dim=-1, keepdim=True) > 0).to(context.dtype)  # (N, L, 1)
        mean = (context * words).sum(dim=1) / words.sum(dim=1).clamp(min=1.0)  # (N, D)
        predicted: Tensor = self.unet(latents, timesteps, class_labels=self.project(mean)).sample
        return predicted


class WordContext(nn.Module):
    """The demo bundle's text encoder: prompts to context (N, 16, D), of which padding is zero."""

    def __init__(self, width: int = 96, vocabulary: tuple[str, ...] = VOCABULARY):
        super().__init__()
        self.words = WordEncoder(tuple(vocabulary), width)

    def forward(self, prompts: list[str]) -> Tensor:
        named = [prompt.strip() or "film" for prompt in prompts]  # attention over no word at all is undefined
        hidden, words = self.words(named)
        out = torch.where(words.unsqueeze(-1), hidden, torch.zeros_like(hidden))
        empty = torch.tensor([not prompt.strip() for prompt in prompts], device=out.device)
        return torch.where(empty.view(-1, 1, 1), torch.zeros_like(out), out)


class TextToImage(nn.Module):
    """Denoiser and text encoder, which are trained and stored together."""

    def __init__(self, denoiser: nn.Module, text_encoder: nn.Module):
        super().__init__()
        self.denoiser, self.text_encoder = denoiser, text_encoder


@dataclass(frozen=True)
class RadEditParts:
    """What RadEdit runs on.

    Attributes:
        denoiser: `denoiser(latents, timesteps, context) -> predicted noise`.
        text_encoder: `text_encoder(prompts) -> context (N, L, D)`; the empty prompt is unconditional.
        autoencoder: `encode(images) -> latents`, `decode(latents) -> images`.
        schedule: A diffusers scheduler.
    """

    denoiser: Callable[[Tensor, Tensor, Tensor], Tensor]
    text_encoder: Callable[[list[str]], Tensor]
    autoencoder: Any
    schedule: Any
