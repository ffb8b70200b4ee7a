"""A small decoder that stands in for a bundle's own where only a gradient is wanted."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..film import resize
from .networks import SmoothBlock

SCALE = 4  # pixels a latent


class Preview(nn.Module):
    """Latents (N, C, h, w) to films (N, 1, 4h, 4w), not clamped; distilled from a bundle's decoder.

    It is a tenth of the demo's decoder and a hundredth of Cheff's. What is edited is decoded by the
    bundle's own decoder: this one tells where to go, not what is shown.
    """

    def __init__(self, latent_channels: int = 8, widths: tuple[int, int] = (96, 48)):
        super().__init__()
        self.config = {"latent_channels": latent_channels, "widths": list(widths)}
        wide, narrow = widths
        self.inward = nn.Conv2d(latent_channels, wide, 3, 1, 1)
        self.coarse = nn.Sequential(SmoothBlock(wide, wide, 1), SmoothBlock(wide, wide, 1))
        self.fine = nn.Sequential(SmoothBlock(wide, narrow, 1), SmoothBlock(narrow, narrow, 1))
        self.outward = nn.Conv2d(narrow, 4, 3, 1, 1)

    def forward(self, latents: Tensor) -> Tensor:
        x = self.coarse(self.inward(latents))  # (N, wide, h, w)
        x = self.fine(F.interpolate(x, scale_factor=2.0, mode="nearest"))  # (N, narrow, 2h, 2w)
        films: Tensor = F.pixel_shuffle(self.outward(x), 2)
        return 0.5 + films


def at_preview(films: Tensor, latents: Tensor) -> Tensor:
    """Films as large as a preview of these latents."""
    return resize(films, (SCALE * latents.shape[-2], SCALE * latents.shape[-1]))


def distillation_loss(preview: nn.Module, autoencoder: nn.Module, classifier: nn.Module, latents: Tensor) -> Tensor:
    """How far a preview is from what the decoder makes of latents, in grey levels and in the classifier's logits.

    Half of the latents are first moved the way a preview-guided edit would move them, so that the
    preview is right where it leads.

    Args:
        preview: Is trained.
        autoencoder: Whose decoder is the teacher.
        classifier: Whose logits an edit follows.
        latents: (N, C, h, w).
    """
    spread = latents.std()
    half = len(latents) // 2
    with torch.enable_grad():
        start = latents[:half].detach().requires_grad_(True)
        logits = classifier(preview(start))
        signs = torch.where(torch.rand_like(logits) < 0.5, -1.0, 1.0) * (torch.rand_like(logits) < 0.5)
        (way,) = torch.autograd.grad((signs * logits).sum(), start)
    length = way.flatten(1).norm(dim=1).view(-1, 1, 1, 1).clamp(min=1e-8)
    reach = 40.0 * spread * torch.rand_like(length) ** 2  # of the whole latent; an edit moves it by 10 to 40
    moved = torch.cat([latents[:half] + reach * way / length, latents[half:]])
    moved = moved + 0.1 * spread * torch.rand(len(moved), 1, 1, 1, device=moved.device) * torch.randn_like(moved)
    with torch.no_grad():
        target = autoencoder.decode(moved)  # type: ignore[operator]
        wanted = classifier(target.clamp(0.0, 1.0))
        target = at_preview(target, latents)
    made = preview(moved)
    error = made - target
    off = F.smooth_l1_loss(classifier(made.clamp(0.0, 1.0)), wanted)
    loss: Tensor = error.abs().mean() + 5.0 * error.pow(2).mean() + 0.02 * off
    return loss
