"""RadEdit (microsoft/radedit) from local files, in diffusers' and transformers' own classes.

The text encoder, BioViL-T, is published with code of its own; none of it is run: its weights are
those of a BERT and go into transformers' BERT.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ..errors import UserError, one_line
from .text_to_image import RadEditParts, TextDenoiser

TOKENS = 128
SCHEDULE = {
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "num_train_timesteps": 1000,
    "timestep_spacing": "trailing",
    "steps_offset": 1,
    "set_alpha_to_one": True,
    "clip_sample": False,
    "prediction_type": "epsilon",
}


class StableAutoencoder(nn.Module):
    """A diffusers autoencoder of colour pictures, on grey films: its factor is undone and done here."""

    def __init__(self, kl: Any):
        super().__init__()
        self.kl, self.factor = kl, float(kl.config.scaling_factor)

    def encode(self, images: Tensor) -> Tensor:
        """Films (N, 1, H, W) in [0, 1] to latents (N, C, H/8, W/8), the posterior's mode, scaled."""
        mode: Tensor = self.kl.encode(images.expand(-1, 3, -1, -1) * 2.0 - 1.0).latent_dist.mode()
        return mode * self.factor

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to films (N, 1, H, W), not clamped."""
        colour: Tensor = (self.kl.decode(latents / self.factor).sample + 1.0) / 2.0
        return colour.mean(dim=1, keepdim=True)


class BertContext(nn.Module):
    """A BERT as text encoder: prompts to its last hidden state, padded to 128 tokens, nothing masked."""

    def __init__(self, bert: Any, tokenize: Callable[[list[str]], Tensor]):
        super().__init__()
        self.bert, self.tokenize = bert, tokenize

    def forward(self, prompts: list[str]) -> Tensor:
        """Context (N, 128, D) of N prompts."""
        tokens = self.tokenize(prompts).to(self.bert.device)
        hidden: Tensor = self.bert(input_ids=tokens).last_hidden_state
        return hidden


def load_radedit(folder: Path, device: torch.device) -> RadEditParts:
    """Loads RadEdit from a folder with `unet/`, `vae/`, `text_encoder/` and, if there, `scheduler/`.

    Args:
        folder: `unet` and `vae` as diffusers saves them; `text_encoder` as BioViL-T is published:
            `config.json`, `vocab.txt` and `model.safetensors` or `pytorch_model.bin`.
        device: Where the parts go.

    Raises:
        UserError: A file is missing or fits no part; says which.
    """
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    unet = _load_diffusers(UNet2DConditionModel, folder / "unet", "microsoft/radedit")
    vae = _load_diffusers(AutoencoderKL, folder / "vae", "stabilityai/sdxl-vae")
    text = load_text_encoder(folder / "text_encoder")
    wanted = int(unet.config.cross_attention_dim)
    if text.bert.config.hidden_size != wanted:
        raise UserError(
            f"{folder / 'text_encoder'}: hidden size {text.bert.config.hidden_size}, but the unet wants {wanted}; "
            "it belongs to another model"
        )
    config = folder / "scheduler" / "scheduler_config.json"
    schedule = DDIMScheduler.from_config(_read_json(config) if config.is_file() else SCHEDULE)
    modules = [m.eval().requires_grad_(False).to(device) for m in (TextDenoiser(unet), text, StableAutoencoder(vae))]
    return RadEditParts(modules[0], modules[1], modules[2], schedule)


def _load_diffusers(kind: Any, folder: Path, owner: str) -> Any:
    _expect(folder / "config.json", owner)
    _expect(folder / "diffusion_pytorch_model.safetensors", owner)
    try:
        return kind.from_pretrained(
            str(folder),
            local_files_only=True,
            use_safetensors=True,
            torch_dtype=torch.float32,
            low_cpu_mem_usage=False,  # what it saves is little, and it would want accelerate
        )
    except Exception as error:  # diffusers raises many kinds for a config or a file that does not fit
        line = one_line(error)
        raise UserError(f"{folder}: does not load as {kind.__name__} ({line}); copy it again from {owner}") from None


def load_text_encoder(folder: Path) -> BertContext:
    """BioViL-T's text encoder from its own files, without its code.

    Raises:
        UserError: A file is missing, holds code in a pickle, or is not a BERT of that configuration.
    """
    owner = "microsoft/BiomedVLP-BioViL-T"
    config = _read_json(_expect(folder / "config.json", owner))
    vocabulary = _expect(folder / "vocab.txt", owner)
    try:
        from transformers import BertConfig, BertModel, BertTokenizer
    except ImportError:
        raise UserError('RadEdit\'s text encoder needs transformers; pip install "cfkit[radedit]"') from None
    known = set(BertConfig().to_dict()) - {"architectures", "auto_map", "model_type", "transformers_version"}
    try:
        bert = BertModel(BertConfig(**{k: v for k, v in config.items() if k in known}), add_pooling_layer=False)
    except (TypeError, ValueError) as error:
        line = one_line(error)
        raise UserError(f"{folder / 'config.json'}: no configuration of a BERT ({line})") from None
    weights = _read_weights(folder, owner)
    state = {
        name.removeprefix("bert."): value for name, value in weights.items() if name.startswith("bert.")
    } or weights
    mine: dict[str, Tensor] = bert.state_dict()
    for name in mine:
        if name not in state or state[name].shape != mine[name].shape:
            fault = "missing" if name not in state else "of another shape"
            raise UserError(f"{folder}: not the BERT that config.json describes: {name} is {fault}")
    bert.load_state_dict({name: state[name].float() for name in mine})
    settings = _read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    tokenizer = BertTokenizer(str(vocabulary), do_lower_case=bool(settings.get("do_lower_case", True)))

    def tokenize(prompts: list[str]) -> Tensor:
        rows: Tensor = tokenizer(
            prompts, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt"
        ).input_ids
        return rows

    return BertContext(bert, tokenize)


def _read_weights(folder: Path, owner: str) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    path = folder / "model.safetensors"
    try:
        state: dict[str, Tensor]
        if path.is_file():
            state = load_file(path)
        else:
            path = _expect(folder / "pytorch_model.bin", owner)
            state = torch.load(path, map_location="cpu", weights_only=True)
        return state
    except UserError:
        raise
    except SafetensorError as error:
        raise UserError(f"{path}: not a safetensors file ({error}); copy it again from {owner}") from None
    except Exception as error:  # a pickle that would run code, or half a file
        line = one_line(error, most=120)
        raise UserError(f"{path}: not a file of weights alone ({line}); copy it again from {owner}") from None


def _expect(path: Path, owner: str) -> Path:
    if not path.is_file():
        raise UserError(f"{path}: not found; copy it from {owner}, whose licence you must have accepted")
    return path


def _read_json(path: Path) -> dict[str, Any]:
    try:
        read = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable JSON ({error})") from None
    if not isinstance(read, dict):
        raise UserError(f"{path}: not a JSON object")
    return read
