"""Cheff's checkpoints (saiboxx/chexray-diffusion) in diffusers' modules.

The released files hold latent-diffusion layouts: an OpenAI U-Net and a KL autoencoder. Widths and
depths are inferred from the shapes, so both published channel multipliers load.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from diffusers import AutoencoderKL, UNet2DModel
from torch import Tensor, nn

from ..errors import UserError
from .checkpoints import load_exactly

ALPHAS = {"beta_start": 0.0015, "beta_end": 0.0295, "num_train_timesteps": 1000, "beta_schedule": "scaled_linear"}
SCHEDULE: dict[str, Any] = ALPHAS | {
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "prediction_type": "epsilon",
}

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_FIXED = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}


class Denoiser(nn.Module):
    """A diffusers U-Net as the contract's call: latents and timesteps to predicted noise."""

    def __init__(self, unet: UNet2DModel):
        super().__init__()
        self.unet = unet

    def forward(self, latents: Tensor, timesteps: Tensor) -> Tensor:
        predicted: Tensor = self.unet(latents, timesteps).sample
        return predicted


class CheffAutoencoder(nn.Module):
    """Cheff's autoencoder on grey films: 256 px to (3, 64, 64).

    Args:
        kl: The converted autoencoder, three channels in and out.
        grey: Whether `decode` returns the mean of the three channels, as films have one.
    """

    def __init__(self, kl: AutoencoderKL, *, grey: bool = True):
        super().__init__()
        self.kl, self.grey = kl, grey

    def encode(self, images: Tensor) -> Tensor:
        """Films (N, 1 or 3, H, W) in [0, 1] to latents (N, 3, H/4, W/4), the posterior's mode."""
        mode: Tensor = self.kl.encode(images.expand(-1, 3, -1, -1) * 2.0 - 1.0).latent_dist.mode()
        return mode

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to films (N, 1, H, W), or three channels where not `grey`; not clamped."""
        images: Tensor = (self.kl.decode(latents).sample + 1.0) / 2.0
        return images.mean(dim=1, keepdim=True) if self.grey else images


def strip_checkpoint(checkpoint: Mapping[str, Any], prefix: str) -> dict[str, Tensor]:
    """The tensors under a prefix, without what released files carry beside them.

    Args:
        checkpoint: A loaded file, `{"state_dict": ...}` or the tensors themselves.
        prefix: What the wanted names start with after an optional "model." or "module.", such as
            "diffusion_model."; "" takes every tensor that belongs to no other part.
    """
    state = checkpoint.get("state_dict", checkpoint)
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise UserError("holds no weights by name")
    tensors = {}
    for name, value in state.items():
        bare = re.sub(r"^(module\.)?(model\.)?", "", name) if prefix else re.sub(r"^module\.", "", name)
        foreign = bare.startswith(("model_ema.", "first_stage_model.", "loss.")) or name.startswith("model_ema.")
        if isinstance(value, Tensor) and not foreign and bare.startswith(prefix):
            tensors[bare.removeprefix(prefix)] = value.float()
    return tensors


def convert_unet(checkpoint: Mapping[str, Any], *, num_head_channels: int = 32) -> UNet2DModel:
    """An OpenAI U-Net without conditioning as a diffusers model.

    Args:
        checkpoint: The released file, loaded; names start with "model.diffusion_model.".
        num_head_channels: Channels of an attention head, which the shapes do not tell.

    Raises:
        UserError: The shapes fit no U-Net of this kind; the first missing name is given.
    """
    state = strip_checkpoint(checkpoint, "diffusion_model.")
    if any(".transformer_blocks." in name for name in state):
        raise UserError("a U-Net that takes text; --text-to-image takes it, --unet the unconditional one")
    config = unet_shape(state)
    for name, value in state.items():
        if name.endswith(".qkv.weight") and len(value) % (3 * num_head_channels):
            raise UserError(f"--head-channels {num_head_channels}: {name} has {len(value)} rows, no such heads")
    attends = config.pop("attends")
    model = UNet2DModel(
        **config,
        down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
        attention_head_dim=num_head_channels,
        norm_eps=1e-5,
    )
    renamed: dict[str, Tensor] = {}
    for name, value in rename_unet(state, config["layers_per_block"] + 1).items():
        block, attention, rest = name.partition(".attentions.")
        if attention:
            index, inner, leaf = rest.split(".")
            renamed |= _attention(f"{block}.attentions.{index}", inner, leaf, value, num_head_channels)
        else:
            renamed[name] = value
    load_exactly(model, renamed, "U-Net")
    return model


def unet_shape(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Channels, widths and depth of an OpenAI U-Net as diffusers names them, and which levels attend ("attends").

    Raises:
        UserError: It is no such U-Net.
    """
    if "input_blocks.0.0.weight" not in state or "out.2.weight" not in state:
        raise UserError("not a latent-diffusion U-Net: model.diffusion_model.input_blocks.0.0.weight is missing")
    inputs = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("input_blocks."))
    starts = [i for i in range(inputs) if f"input_blocks.{i}.0.op.weight" in state]
    per_level = starts[0] if starts else inputs  # conv_in or a down-sampling, then the residual blocks
    last = [level * per_level + per_level - 1 for level in range(len(starts) + 1)]
    return {
        "in_channels": state["input_blocks.0.0.weight"].shape[1],
        "out_channels": state["out.2.weight"].shape[0],
        "block_out_channels": [state[f"input_blocks.{i}.0.out_layers.3.weight"].shape[0] for i in last],
        "layers_per_block": per_level - 1,
        "attends": [any(name.startswith(f"input_blocks.{i}.1.") for name in state) for i in last],
    }


def rename_unet(state: Mapping[str, Tensor], per_level: int) -> dict[str, Tensor]:
    """The tensors of an OpenAI U-Net by diffusers' names; inside an attention block theirs are kept.

    Args:
        per_level: Input blocks a level: a down-sampling or the first convolution, and the residual blocks.
    """
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        stem, leaf = name.rsplit(".", 1)
        if stem in _FIXED:
            renamed[f"{_FIXED[stem]}.{leaf}"] = value
            continue
        parsed = re.match(r"(\w+_blocks?)\.(\d+)(?:\.(\d+))?\.(.*)", stem)
        if parsed is None:
            raise UserError(f"not a U-Net of a known layout: {name} has no place")
        block, number, place, rest = parsed.groups()
        if block == "middle_block":
            place, rest = number, f"{place}.{rest}" if place else rest
            kind, target = ("attentions.0" if place == "1" else f"resnets.{int(place) // 2}"), "mid_block"
        elif block == "input_blocks":
            level, index = divmod(int(number) - 1, per_level)
            target, kind = f"down_blocks.{level}", f"{'resnets' if place == '0' else 'attentions'}.{index}"
        else:
            level, index = divmod(int(number), per_level)
            target, kind = f"up_blocks.{level}", f"{'resnets' if place == '0' else 'attentions'}.{index}"
        if rest == "op":
            renamed[f"{target}.downsamplers.0.conv.{leaf}"] = value
        elif rest == "conv":
            renamed[f"{target}.upsamplers.0.conv.{leaf}"] = value
        else:
            renamed[f"{target}.{kind}.{_RESNET.get(rest, rest)}.{leaf}"] = value
    return renamed


def _attention(target: str, rest: str, leaf: str, value: Tensor, head: int) -> dict[str, Tensor]:
    """One tensor of an attention block; qkv is in the legacy order, heads first."""
    if rest == "norm":
        return {f"{target}.group_norm.{leaf}": value}
    flat = value.squeeze(-1) if leaf == "weight" else value
    if rest == "proj_out":
        return {f"{target}.to_out.0.{leaf}": flat}
    split = flat.reshape(-1, 3, head, *flat.shape[1:])  # (heads, 3, d, ...)
    return {f"{target}.to_{q}.{leaf}": split[:, k].flatten(0, 1) for k, q in enumerate("qkv")}


def convert_autoencoder(checkpoint: Mapping[str, Any]) -> AutoencoderKL:
    """A latent-diffusion KL autoencoder as a diffusers model.

    Raises:
        UserError: The shapes fit no autoencoder of this kind; the first missing name is given.
    """
    state = strip_checkpoint(checkpoint, "")
    state = {
        k: v for k, v in state.items() if k.startswith(("encoder.", "decoder.", "quant_conv.", "post_quant_conv."))
    }
    if "encoder.conv_in.weight" not in state or "decoder.conv_in.weight" not in state:
        raise UserError("not a latent-diffusion autoencoder: encoder.conv_in.weight is missing")
    levels = 1 + max(int(name.split(".")[2]) for name in state if name.startswith("encoder.down."))
    layers = 1 + max(int(name.split(".")[4]) for name in state if name.startswith("encoder.down.0.block."))
    widths = tuple(state[f"encoder.down.{i}.block.0.conv1.weight"].shape[0] for i in range(levels))
    model = AutoencoderKL(
        in_channels=state["encoder.conv_in.weight"].shape[1],
        out_channels=state["decoder.conv_out.weight"].shape[0],
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=widths,
        layers_per_block=layers,
        latent_channels=state["decoder.conv_in.weight"].shape[1],
    )
    renames = (
        (r"\.mid\.block_(\d)", lambda m: f".mid_block.resnets.{int(m[1]) - 1}"),
        (r"\.mid\.attn_1\.norm", lambda m: ".mid_block.attentions.0.group_norm"),
        (r"\.mid\.attn_1\.([qkv])\.", lambda m: f".mid_block.attentions.0.to_{m[1]}."),
        (r"\.mid\.attn_1\.proj_out", lambda m: ".mid_block.attentions.0.to_out.0"),
        (r"\.down\.(\d+)\.block\.", lambda m: f".down_blocks.{m[1]}.resnets."),
        (r"\.down\.(\d+)\.downsample\.", lambda m: f".down_blocks.{m[1]}.downsamplers.0."),
        (r"\.up\.(\d+)\.block\.", lambda m: f".up_blocks.{levels - 1 - int(m[1])}.resnets."),
        (r"\.up\.(\d+)\.upsample\.", lambda m: f".up_blocks.{levels - 1 - int(m[1])}.upsamplers.0."),
        (r"nin_shortcut", lambda m: "conv_shortcut"),
        (r"\.norm_out\.", lambda m: ".conv_norm_out."),
    )
    converted = {}
    for name, value in state.items():
        for pattern, replacement in renames:
            name = re.sub(pattern, replacement, name)
        flat = ".attentions." in name and value.ndim == 4
        converted[name] = value[:, :, 0, 0] if flat else value
    load_exactly(model, converted, "autoencoder")
    return model
