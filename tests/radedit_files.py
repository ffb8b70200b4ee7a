"""A tiny random RadEdit, in memory and as files in the published layout."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import save_file

from cfkit.bundles.radedit import SCHEDULE

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "present",
    "no",
    "apparent",
    "pleural",
    "effusion",
    "##s",
    "left",
]
WIDTH = 24


def tiny_unet(seed: int = 0) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=8,
        norm_num_groups=8,
    ).eval()


def tiny_vae(seed: int = 1) -> AutoencoderKL:
    torch.manual_seed(seed)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        scaling_factor=0.13025,
    ).eval()


def tiny_bert(seed: int = 2) -> Any:
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=160,
    )
    return BertModel(config, add_pooling_layer=False).eval()


def write_radedit(folder: Path, *, pickled: bool = False) -> SimpleNamespace:
    """Writes the folder and returns the models that it was made from."""
    unet, vae, bert = tiny_unet(), tiny_vae(), tiny_bert()
    unet.save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    DDIMScheduler.from_config(SCHEDULE).save_pretrained(folder / "scheduler")
    text = folder / "text_encoder"
    text.mkdir(parents=True)
    # as published: a masked language model with heads beside the encoder, and code of its own
    state = {f"bert.{name}": value.contiguous() for name, value in bert.state_dict().items()}
    state |= {"cls.predictions.bias": torch.zeros(4), "cls_projection_head.dense_to_hidden.weight": torch.zeros(2, 2)}
    if pickled:
        torch.save(state, text / "pytorch_model.bin")
    else:
        save_file(state, text / "model.safetensors")
    config = {
        **bert.config.to_dict(),
        "model_type": "bio_vil-t",
        "architectures": ["ImageTextModel"],
        "auto_map": {"AutoModel": "modeling_cxrbert.CXRBertModel"},
        "projection_size": 128,
    }
    (text / "config.json").write_text(json.dumps(config, default=str))
    (text / "vocab.txt").write_text("\n".join(WORDS))
    (text / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    (text / "modeling_cxrbert.py").write_text("raise SystemExit('remote code was run')\n")
    return SimpleNamespace(unet=unet, vae=vae, bert=bert)
