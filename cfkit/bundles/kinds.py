"""The classes of parts that `bundle.toml` may name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from ..errors import UserError, unknown


def build_part(kind: str, config: dict[str, Any]) -> nn.Module:
    """An untrained part of a kind that `bundle.toml` may name.

    Raises:
        UserError: The kind is not known to this version.
    """
    return builder_of(kind)(**config)


def builder_of(kind: str) -> Callable[..., nn.Module]:
    """What builds a part of a kind of its configuration, with all imported that it needs.

    Raises:
        UserError: The kind is not known to this version.
    """
    from diffusers import AutoencoderKL, UNet2DModel

    from . import classifiers, networks
    from .cheff import CheffAutoencoder, Denoiser
    from .cheff_text import CheffTextToImage
    from .chestx_det import PspSegmenter
    from .chexzero import CheXzero
    from .inception import Inception
    from .preview import Preview
    from .text_to_image import PooledTextDenoiser, TextToImage, WordContext

    def unet2d(**config: Any) -> nn.Module:
        return Denoiser(UNet2DModel(**config))

    def cheff_autoencoder(**config: Any) -> nn.Module:
        return CheffAutoencoder(AutoencoderKL(**config))

    def text_to_image(width: int, unet: dict[str, Any]) -> nn.Module:
        told = UNet2DModel(**unet, class_embed_type="identity")
        return TextToImage(PooledTextDenoiser(told, width), WordContext(width))

    kinds: dict[str, Callable[..., nn.Module]] = {
        "unet2d": unet2d,
        "cheff-autoencoder": cheff_autoencoder,
        "demo-autoencoder": networks.Autoencoder,
        "demo-classifier": networks.SmoothClassifier,
        "demo-judge": networks.ConvNextClassifier,
        "demo-segmenter": networks.Segmenter,
        "demo-clip": networks.Clip,
        "demo-text-to-image": text_to_image,
        "cheff-text-to-image": CheffTextToImage,
        "jfhealthcare": classifiers.PcamDenseNet,
        "resnet152": classifiers.ResNet152,
        "torchxrayvision": classifiers.XrvClassifier,
        "chestx-det": PspSegmenter,
        "chexzero": CheXzero,
        "inception": Inception,
        "preview": Preview,
    }
    if kind not in kinds:
        raise UserError(unknown("class of part", kind, kinds))
    return kinds[kind]
