"""The networks of the demo bundle that are not diffusers models: small, and fast on a CPU.

Each takes films (N, 1, H, W) in [0, 1] of any size and brings them to its own resolution.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F

from ..film import resize

FINDINGS = ("Atelectasis", "Cardiomegaly", "Pleural Effusion")


def _at(films: Tensor, size: int) -> Tensor:
    """Films at a network's own resolution, in [-1, 1]: (N, 1, size, size)."""
    return resize(films, (size, size)) * 2.0 - 1.0


class Autoencoder(nn.Module):
    """A KL autoencoder on pixel-unshuffled films: 256 px to (latent_channels, 32, 32).

    Latents are shifted and scaled to zero mean and unit variance per channel.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, latent_channels: int = 8, widths: tuple[int, ...] = (32, 64, 128), layers: int = 1):
        super().__init__()
        self.config = {"latent_channels": latent_channels, "widths": list(widths), "layers": layers}
        self.kl = AutoencoderKL(
            in_channels=4,
            out_channels=4,
            down_block_types=("DownEncoderBlock2D",) * len(widths),
            up_block_types=("UpDecoderBlock2D",) * len(widths),
            block_out_channels=tuple(widths),
            layers_per_block=layers,
            latent_channels=latent_channels,
            norm_num_groups=8,
            mid_block_add_attention=False,
        )
        self.register_buffer("shift", torch.zeros(1, latent_channels, 1, 1))
        self.register_buffer("scale", torch.ones(1, latent_channels, 1, 1))

    def encode(self, films: Tensor) -> Tensor:
        """Films (N, 1, H, W) in [0, 1] to latents (N, C, H/8, W/8), the posterior's mode."""
        mode: Tensor = self.kl.encode(F.pixel_unshuffle(films * 2.0 - 1.0, 2)).latent_dist.mode()
        return (mode - self.shift) / self.scale

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (N, C, h, w) to films (N, 1, 8h, 8w), not clamped."""
        decoded = self.kl.decode(latents * self.scale + self.shift).sample
        return (F.pixel_shuffle(decoded, 2) + 1.0) / 2.0


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with batch norm and a skip."""

    def __init__(self, inward: int, outward: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inward, outward, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outward)
        self.conv2 = nn.Conv2d(outward, outward, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outward)
        same = stride == 1 and inward == outward
        self.skip = nn.Identity() if same else nn.Conv2d(inward, outward, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = F.silu(self.norm1(self.conv1(x)))
        return F.silu(self.norm2(self.conv2(h)) + self.skip(x))


class SmoothBlock(nn.Module):
    """As `ResidualBlock`, with group norm and mean pooling: its gradient depends on one film alone."""

    def __init__(self, inward: int, outward: int, stride: int):
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(inward, outward, 3, 1, 1, bias=False)
        self.norm1 = nn.GroupNorm(8, outward)
        self.conv2 = nn.Conv2d(outward, outward, 3, 1, 1, bias=False)
        self.norm2 = nn.GroupNorm(8, outward)
        same = stride == 1 and inward == outward
        self.skip = nn.Identity() if same else nn.Conv2d(inward, outward, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride)
        h = F.silu(self.norm1(self.conv1(x)))
        return F.silu(self.norm2(self.conv2(h)) + self.skip(x))


class SmoothClassifier(nn.Module):
    """The guidance classifier: a small ResNet at 128 px whose input gradients an editor follows."""

    def __init__(
        self, findings: tuple[str, ...] = FINDINGS, widths: tuple[int, ...] = (24, 48, 96, 160), size: int = 128
    ):
        super().__init__()
        self.config = {"findings": list(findings), "widths": list(widths), "size": size}
        self.findings, self.size = tuple(findings), size
        stem = nn.Conv2d(4, widths[0], 3, 1, 1, bias=False)
        self.stem = nn.Sequential(stem, nn.GroupNorm(8, widths[0]), nn.SiLU())
        self.blocks = nn.Sequential(
            *(
                block
                for i, w in enumerate(widths)
                for block in (SmoothBlock(widths[max(i - 1, 0)], w, 1 if i == 0 else 2), SmoothBlock(w, w, 1))
            )
        )
        self.head = nn.Linear(widths[-1], len(findings))

    def forward(self, films: Tensor) -> Tensor:
        maps = self.blocks(self.stem(F.pixel_unshuffle(_at(films, self.size), 2)))
        logits: Tensor = self.head(maps.mean(dim=(2, 3)))
        return logits


class Tower(nn.Module):
    """The image tower of the CLIP-style model: a small ResNet with smooth activations."""

    def __init__(self, outward: int, widths: tuple[int, ...], size: int):
        super().__init__()
        self.size = size
        self.stem = nn.Sequential(nn.Conv2d(1, widths[0], 5, 2, 2, bias=False), nn.BatchNorm2d(widths[0]), nn.SiLU())
        self.blocks = nn.Sequential(
            *(
                block
                for i, w in enumerate(widths)
                for block in (ResidualBlock(widths[max(i - 1, 0)], w, 1 if i == 0 else 2), ResidualBlock(w, w, 1))
            )
        )
        self.head = nn.Linear(widths[-1], outward)

    def pooled(self, films: Tensor) -> Tensor:
        """Features (N, C): mean over the last map."""
        maps: Tensor = self.blocks(self.stem(_at(films, self.size)))
        return maps.mean(dim=(2, 3))

    def forward(self, films: Tensor) -> Tensor:
        features: Tensor = self.head(self.pooled(films))
        return features


class ConvNextBlock(nn.Module):
    """Depthwise 7 x 7, then two pointwise layers, with a skip."""

    def __init__(self, width: int):
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, 1, 3, groups=width)
        self.norm = nn.GroupNorm(1, width)
        self.expand = nn.Conv2d(width, 3 * width, 1)
        self.project = nn.Conv2d(3 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.project(F.gelu(self.expand(self.norm(self.depthwise(x)))))
        return x + change


class ConvNextClassifier(nn.Module):
    """The judge: ConvNeXt blocks on 4 x 4 patches, at 160 px, maximum and mean pooling."""

    def __init__(self, findings: tuple[str, ...] = FINDINGS, widths: tuple[int, ...] = (40, 80, 144), size: int = 160):
        super().__init__()
        self.config = {"findings": list(findings), "widths": list(widths), "size": size}
        self.findings, self.size = tuple(findings), size
        stages: list[nn.Module] = []
        for i, w in enumerate(widths):
            stages.append(nn.Conv2d(1, w, 4, 4) if i == 0 else nn.Conv2d(widths[i - 1], w, 2, 2))
            stages.append(nn.GroupNorm(1, w))
            stages += [ConvNextBlock(w), ConvNextBlock(w)]
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(2 * widths[-1], len(findings))

    def feature_maps(self, films: Tensor) -> list[Tensor]:
        """The map at the end of each stage, (N, C, h, w)."""
        x, maps = _at(films, self.size), []
        for k, module in enumerate(self.stages, 1):
            x = module(x)
            if k % 4 == 0:  # a stage is a convolution, a norm and two blocks
                maps.append(x)
        return maps

    def pooled(self, films: Tensor) -> Tensor:
        """Features (N, 2C): mean and maximum over the last map."""
        maps = self.stages(_at(films, self.size))
        return torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)

    def forward(self, films: Tensor) -> Tensor:
        logits: Tensor = self.head(self.pooled(films))
        return logits


class Segmenter(nn.Module):
    """A U-Net for the 14 structures, at 128 px."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64, 96), size: int = 128):
        super().__init__()
        self.config = {"widths": list(widths), "size": size}
        self.size = size
        self.down = nn.ModuleList(
            ResidualBlock(1 if i == 0 else widths[i - 1], w, 1 if i == 0 else 2) for i, w in enumerate(widths)
        )
        self.middle = ResidualBlock(widths[-1], widths[-1], 1)
        self.up = nn.ModuleList(
            ResidualBlock(widths[i] + widths[i - 1], widths[i - 1], 1) for i in range(len(widths) - 1, 0, -1)
        )
        self.head = nn.Conv2d(widths[0], 14, 1)

    def logits(self, films: Tensor) -> Tensor:
        """Logits at the network's own resolution, (N, 14, size, size)."""
        x = _at(films, self.size)
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
        x = self.middle(x)
        for block, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), skip], dim=1))
        logits: Tensor = self.head(x)
        return logits

    def forward(self, films: Tensor) -> Tensor:
        logits = F.interpolate(self.logits(films), size=films.shape[-2:], mode="bilinear", align_corners=False)
        return torch.sigmoid(logits)


class WordEncoder(nn.Module):
    """Prompts to features: words of a fixed vocabulary and one self-attention layer."""

    def __init__(self, vocabulary: tuple[str, ...], width: int):
        super().__init__()
        self.vocabulary = {word: i + 1 for i, word in enumerate(vocabulary)}  # 0 pads, len + 1 is unknown
        self.embedding = nn.Embedding(len(vocabulary) + 2, width, padding_idx=0)
        self.position = nn.Parameter(0.02 * torch.randn(16, width))
        self.layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, activation="gelu", batch_first=True)

    def tokenize(self, prompts: list[str]) -> Tensor:
        """Word numbers (N, 16), padded with 0; words beyond the sixteenth are left out."""
        rows = torch.zeros(len(prompts), 16, dtype=torch.long)
        for row, prompt in zip(rows, prompts, strict=True):
            words = "".join(c if c.isalnum() else " " for c in prompt.lower()).split()[:16]
            for k, word in enumerate(words):
                row[k] = self.vocabulary.get(word, len(self.vocabulary) + 1)
        return rows

    def forward(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """Hidden states (N, 16, D), and which of them are words, (N, 16) bool."""
        tokens = self.tokenize(prompts).to(self.position.device)
        words = tokens != 0
        hidden: Tensor = self.layer(self.embedding(tokens) + self.position, src_key_padding_mask=~words)
        return hidden, words


VOCABULARY = (
    *("no", "present", "apparent", "absent", "finding", "findings", "normal"),
    *("atelectasis", "cardiomegaly", "pleural", "effusion", "left", "right", "bilateral", "both"),
    *("mild", "moderate", "severe", "small", "large", "band", "lobe", "lower", "upper"),
    *("heart", "lung", "film", "chest", "with", "without"),
)


class Clip(nn.Module):
    """Image and text features in one space, for the CLIP metrics."""

    def __init__(
        self,
        width: int = 128,
        widths: tuple[int, ...] = (20, 40, 80, 128),
        size: int = 128,
        vocabulary: tuple[str, ...] = VOCABULARY,
    ):
        super().__init__()
        self.config = {"width": width, "widths": list(widths), "size": size, "vocabulary": list(vocabulary)}
        self.tower = Tower(width, widths, size)
        self.words = WordEncoder(tuple(vocabulary), width)
        self.text_head = nn.Linear(width, width)
        self.logit_scale = nn.Parameter(torch.tensor(2.3))

    def pooled(self, films: Tensor) -> Tensor:
        """Features before the projection, (N, C)."""
        return self.tower.pooled(films)

    def image_features(self, films: Tensor) -> Tensor:
        """Normalised features (N, D) of films (N, 1, H, W) in [0, 1]."""
        return F.normalize(self.tower(films), dim=-1)

    def text_features(self, prompts: list[str]) -> Tensor:
        """Normalised features (N, D) of N prompts."""
        hidden, words = self.words(prompts)
        kept = words.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * kept).sum(1) / kept.sum(1).clamp(min=1.0)
        return F.normalize(self.text_head(mean), dim=-1)
