"""The toy models of the golden numbers, drawn again from the names of their parameters."""

from __future__ import annotations

import json
import zlib
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from cfkit.bundles.cheff import CheffAutoencoder, Denoiser, convert_autoencoder, convert_unet

FOLDER = Path(__file__).parent / "golden" / "cheff_tiny"


def draw(name: str, shape: list[int]) -> Tensor:
    value = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
    if len(shape) > 1:
        return value / value[0].numel() ** 0.5
    return 1 + 0.1 * value if name.endswith("weight") else 0.05 * value


@lru_cache
def layout() -> dict:
    return json.loads((FOLDER / "layout.json").read_text())


@lru_cache
def golden() -> dict[str, Tensor]:
    return load_file(FOLDER / "golden.safetensors")


def unet_checkpoint() -> dict:
    state = {f"model.{name}": draw(f"model.{name}", shape) for name, shape in layout()["unet"].items()}
    state["model.diffusion_model.out.2.weight"] *= 0.1
    extra = {
        "model_ema.decay": torch.ones(1),
        "betas": torch.ones(1000),
        "first_stage_model.encoder.conv_in.weight": torch.ones(1),
    }
    return {"state_dict": state | extra, "epoch": 3}


def autoencoder_checkpoint() -> dict:
    return {"state_dict": {name: draw(name, shape) for name, shape in layout()["autoencoder"].items()}}


class TinyClassifier(nn.Module):
    findings = ("A", "Atelectasis", "C", "D", "E")

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 16, 3, 2), nn.Linear(16, 5)
        for name, parameter in self.named_parameters():
            parameter.data = draw(f"classifier.{name}", list(parameter.shape))
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        x = (images - 0.5330) / 0.0349
        return self.fc(F.relu(self.conv2(F.relu(self.conv1(x)))).mean((2, 3)))


@lru_cache
def tiny_models() -> SimpleNamespace:
    return SimpleNamespace(
        denoiser=Denoiser(convert_unet(unet_checkpoint(), num_head_channels=16)),
        autoencoder=CheffAutoencoder(convert_autoencoder(autoencoder_checkpoint()), grey=False),
        schedule=SimpleNamespace(alphas_cumprod=golden()["alphas_cumprod"]),
        classifier=TinyClassifier(),
    )
