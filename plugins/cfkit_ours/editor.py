"""The paper's editor: invert, then denoise while fine-tuning a few layers for each film.

Films are edited together. Each has its own copy of the trained layers and nothing else is copied;
no other weight gets a gradient, and no graph outlives its step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cfkit import Bundle, Edit, Intervention
from cfkit.anatomy import resize_mask, union_mask
from cfkit.detail import compose
from cfkit.diffusion import add_noise, blend, ddim_grid, ddim_step, draw_noise, invert, per_film, trained_layers
from cfkit.diffusion.ddim import timestep_batch
from cfkit.editor import Progress, check_inputs
from cfkit.film import resize

from . import OursOptions
from .losses import anchor, binary_cross_entropy, soft_kl

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}


def spread(count: int, most: int) -> list[int]:
    """At most `most` of the numbers 0 to count - 1, evenly spread, the last always among them."""
    shown = min(count, most)
    return [(k + 1) * count // shown - 1 for k in range(shown)]


@dataclass(frozen=True)
class Factual:
    """What the losses compare with."""

    latents: Tensor  # (N, C, h, w)
    images: Tensor  # (N, 1, H, W), as large as what the losses look through
    roundtrip: Tensor  # the same, encoded and decoded
    logits: Tensor  # of the round trip, (N, K)


class OursEditor:
    """Counterfactuals by per-image fine-tuning (Gökmen & Konukoglu, section 3).

    Args:
        bundle: Needs autoencoder, denoiser, schedule and classifier; a segmenter for the bone mask.
        options: See `OursOptions`.
    """

    def __init__(self, bundle: Bundle, options: OursOptions):
        self.bundle, self.options = bundle, options
        self.autoencoder, self.denoiser, schedule, self.classifier = bundle.require(
            "autoencoder", "denoiser", "schedule", "classifier"
        )
        self.decode = self.autoencoder.decode  # what the losses look through
        if options.decoder == "preview":
            (self.decode,) = bundle.require("preview")
        grid = ddim_grid(schedule.alphas_cumprod, options.num_inference_steps, release=options.release_grid)
        self.grid = grid.without_noisiest(options.skip)
        self.layers = trained_layers(self.denoiser, options.layers)

    def edit(
        self,
        images: Tensor,
        interventions: Sequence[Intervention],
        *,
        masks: Tensor | None = None,
        generators: Sequence[torch.Generator] | None = None,
        progress: Progress | None = None,
    ) -> Edit:
        """Edits films; see `cfkit.Editor`. Without masks the bones are kept, unless `bone_mask` is off."""
        findings = tuple(self.classifier.findings)
        indices = check_inputs(images, interventions, findings, masks=masks, generators=generators)
        device = self.bundle.device
        images = images.to(device, torch.float32)
        generators = generators or [torch.Generator().manual_seed(0) for _ in indices]
        target = torch.tensor(indices, device=device)
        present = torch.tensor([i.present for i in interventions], device=device)
        counts = {"invert": len(self.grid), "train": self.options.epochs * len(self.grid)}
        done = 0

        def tick(*_: int) -> None:
            nonlocal done
            done += 1
            if progress:
                progress(done, sum(counts.values()))

        with torch.no_grad():
            source = self.autoencoder.encode(images)
            keep = self._keep_mask(images, masks)
            trajectory = invert(self.denoiser, source, self.grid, tick, iterations=self.options.inversion_iterations)

        def kept(step: int, alpha: float) -> Tensor:
            if self.options.blending == "trajectory":
                return trajectory[len(self.grid) - step]
            return add_noise(source, draw_noise(source, generators), alpha)

        tuned = self.fine_tune(
            source,
            trajectory[-1],
            images=images,
            keep=None if keep is None else resize_mask(keep, (source.shape[-2], source.shape[-1])),
            target=target,
            present=present,
            kept=kept,
            tick=tick,
        )
        with torch.no_grad():
            shown = [tuned["passes"][k] for k in spread(self.options.epochs, self.options.frames)]
            frames = torch.stack([self.autoencoder.decode(x) for x in shown], dim=1)
            roundtrip = self.autoencoder.decode(source)
        frames = compose(
            images.unsqueeze(1),
            frames,
            roundtrip.unsqueeze(1),
            restore_detail=self.options.restore_detail,
            shrink=self.options.shrink,
        )
        losses = tuned["losses"].movedim(2, 0)  # (N, epochs, updates, 4)
        record = {"films": [{"losses": rows} for rows in losses.tolist()], "timesteps": list(self.grid.timesteps)}
        return Edit(images=frames[:, -1], mask=keep, frames=frames, record=record)

    def _keep_mask(self, images: Tensor, masks: Tensor | None) -> Tensor | None:
        if masks is not None:
            return masks.to(images.device, images.dtype)
        if not self.options.bone_mask:
            return None
        (segmenter,) = self.bundle.require("segmenter")
        return union_mask(segmenter(images))

    def fine_tune(
        self,
        source: Tensor,
        start: Tensor,
        *,
        images: Tensor,
        keep: Tensor | None,
        target: Tensor,
        present: Tensor,
        kept: Callable[[int, float], Tensor],
        tick: Callable[[], None],
    ) -> dict[str, Any]:
        """The passes: at each step blend, one DDIM step, loss on the predicted clean film, update.

        Args:
            source: Latents of the factuals, (N, C, h, w).
            start: The same, inverted.
            images: The factuals, (N, 1, H, W).
            keep: Kept region on the latent grid, (N, 1, h, w), or None.
            target: Index of each film's finding, (N,).
            present: Whether it is to be there, (N,) bool.
            kept: The factual's latents (N, C, h, w) at a step of a pass and its alpha-bar.
            tick: Called after each step.

        Returns:
            "passes": the clean latents at the end of each, and "losses": (epochs, updates, N, 4), total,
            classification, reconstruction and anchor.
        """
        options = self.options
        denoiser, parameters = per_film(self.denoiser, self.layers, len(source))
        optimizer = OPTIMIZERS[options.optimizer](
            parameters, lr=options.lr, fused=source.device.type in ("cpu", "cuda")
        )
        with torch.no_grad():
            roundtrip = self.decode(source).clamp(0.0, 1.0)
            size = (roundtrip.shape[-2], roundtrip.shape[-1])
            factual = Factual(source, resize(images, size), roundtrip, self.classifier(roundtrip))
        updates = options.epochs * math.ceil(len(self.grid) / options.update_every)
        passes: list[Tensor] = []
        losses: list[Tensor] = []
        for _ in range(options.epochs):
            x = start
            for step, (timestep, alpha, alpha_prev) in enumerate(self.grid.down()):
                if keep is not None:
                    x = blend(x, kept(step, alpha), keep)
                learns = step % options.update_every == 0
                with torch.set_grad_enabled(learns):
                    predicted = denoiser(x, timestep_batch(timestep, x))
                    x, clean = ddim_step(x, predicted, alpha, alpha_prev)
                if not learns:
                    tick()
                    continue
                with torch.enable_grad():
                    terms = self._losses(clean, factual, target, present)
                    # a sum: each film's gradient is its own, whatever the batch
                    gradients = torch.autograd.grad(terms[:, 0].sum(), parameters)
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter.grad = gradient.contiguous()  # fused optimisers take no notice of strides
                if options.lr_decay == "cosine":
                    share = 0.5 + 0.5 * math.cos(math.pi * len(losses) / updates)
                    optimizer.param_groups[0]["lr"] = options.lr * share
                optimizer.step()
                x = x.detach()
                losses.append(terms.detach())
                tick()
            passes.append(x)
        return {"passes": passes, "losses": torch.stack(losses).unflatten(0, (options.epochs, -1))}

    def _losses(self, clean: Tensor, factual: Factual, target: Tensor, present: Tensor) -> Tensor:
        """Total, classification, reconstruction and anchor of each film, (N, 4)."""
        options = self.options
        decoded = self.decode(clean).clamp(0.0, 1.0)
        logits = self.classifier(decoded)
        if options.classification == "bce":
            classification = binary_cross_entropy(logits, target, present)
        else:
            classification = soft_kl(logits, target, present, options.temperature)
        edited, original = {
            "image": (decoded, factual.images),
            "roundtrip": (decoded, factual.roundtrip),
            "latent": (clean, factual.latents),
            "none": (factual.latents, factual.latents),
        }[options.reconstruction]
        reconstruction = (edited - original).abs().flatten(1).mean(dim=1)
        others = anchor(logits, factual.logits, target)
        total = (
            options.classification_weight * classification
            + options.reconstruction_weight * reconstruction
            + options.anchor_weight * others
        )
        return torch.stack([total, classification, reconstruction, others], dim=1)
