"""RadEdit: edit-friendly DDPM inversion, replayed with a prompt inside an edit mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from cfkit import Bundle, Edit, Intervention
from cfkit.anatomy import parse_structures, resize_mask, union_mask
from cfkit.detail import compose
from cfkit.diffusion import blend, guide, noisy_path, posterior_mean, scheduler_grid
from cfkit.diffusion.ddim import timestep_batch
from cfkit.editor import Progress, check_inputs
from cfkit.findings import FINDINGS
from cfkit.images import read_mask

from . import RadEditOptions


class RadEditEditor:
    """Counterfactuals by text (Pérez-García et al., ECCV 2024, algorithm 1).

    Args:
        bundle: Needs radedit; a segmenter for masks of structures.
        options: See `RadEditOptions`.
    """

    def __init__(self, bundle: Bundle, options: RadEditOptions):
        self.bundle, self.options = bundle, options
        (self.parts,) = bundle.require("radedit")
        grid = scheduler_grid(self.parts.schedule, options.num_inference_steps)
        self.grid = grid.without_noisiest(options.skip)
        classifier = bundle.classifier
        self.findings = FINDINGS if classifier is None else tuple(classifier.findings)
        self.structures = parse_structures(options.edit) if options.edit else None

    @torch.no_grad()
    def edit(
        self,
        images: Tensor,
        interventions: Sequence[Intervention],
        *,
        masks: Tensor | None = None,
        generators: Sequence[torch.Generator] | None = None,
        progress: Progress | None = None,
    ) -> Edit:
        """Edits films; see `cfkit.Editor`. Without masks the bones are kept, unless `bone_mask` is off.

        The record holds each film's "prompt".
        """
        check_inputs(images, interventions, self.findings, masks=masks, generators=generators)
        images = images.to(self.bundle.device, torch.float32)
        generators = generators or [torch.Generator().manual_seed(0) for _ in interventions]
        prompts = [self.prompt(intervention) for intervention in interventions]
        keep, where = self._masks(images, masks)
        steps = 2 * len(self.grid)
        done = 0

        def tick() -> None:
            nonlocal done
            done += 1
            if progress:
                progress(done, steps)

        autoencoder = self.parts.autoencoder
        source = autoencoder.encode(images)
        base = self.parts.text_encoder([self.options.inversion_prompt] * len(images))  # (N, L, D)
        wanted = self.parts.text_encoder(prompts)
        path, means = self.invert(source, base, generators, tick)
        size = (source.shape[-2], source.shape[-1])
        keep_latent, where_latent = (None if m is None else resize_mask(m, size) for m in (keep, where))
        latents = self.replay(path, means, base, wanted, keep_latent, where_latent, tick)
        decoded = autoencoder.decode(latents)
        roundtrip = autoencoder.decode(source)
        if self.options.paste and keep is not None:
            decoded = torch.lerp(decoded, roundtrip, feather(keep))
        edited = compose(
            images, decoded, roundtrip, restore_detail=self.options.restore_detail, shrink=self.options.shrink
        )
        record = {"films": [{"prompt": prompt} for prompt in prompts], "timesteps": list(self.grid.timesteps)}
        return Edit(images=edited, mask=keep, record=record)

    def prompt(self, intervention: Intervention) -> str:
        """What is asked of the denoiser for an intervention."""
        template = self.options.present_prompt if intervention.present else self.options.absent_prompt
        return self.options.prompt or template.replace("{finding}", intervention.finding)

    def _masks(self, images: Tensor, masks: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Keep mask and edit mask, (N, 1, H, W) or None: nothing is kept, everything is edited."""
        keep = None if masks is None else masks.to(images.device, images.dtype)
        where = None
        if (keep is None and self.options.bone_mask) or self.structures is not None:
            (segmenter,) = self.bundle.require("segmenter")
            probabilities = segmenter(images)
            if keep is None and self.options.bone_mask:
                keep = union_mask(probabilities)
            if self.structures is not None:
                where = union_mask(probabilities, self.structures)
        if self.options.edit_mask:
            given = read_mask(self.options.edit_mask, images.shape[-1]).to(images.device)
            given = given.unsqueeze(0).expand(len(images), -1, -1, -1)
            where = given if where is None else torch.maximum(where, given)
        return keep, where

    def invert(
        self, source: Tensor, context: Tensor, generators: Sequence[torch.Generator], tick: Callable[[], None]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The noisy path of the factual, S + 1 latents (N, C, h, w), and the mean of each step down it, S.

        One prediction a step that will be replayed, none for those that are skipped.
        """
        path = noisy_path(source, self.grid, generators)
        means = []
        for step, (timestep, below, alpha) in enumerate(self.grid.up(), 1):
            x = path[step]
            noise = self.parts.denoiser(x, timestep_batch(timestep, x), context)
            means.append(posterior_mean(x, noise, alpha, below, self.options.eta))
            tick()
        return path, means

    def replay(
        self,
        path: list[Tensor],
        means: list[Tensor],
        base: Tensor,
        wanted: Tensor,
        keep: Tensor | None,
        where: Tensor | None,
        tick: Callable[[], None],
    ) -> Tensor:
        """From the noisiest replayed step to clean latents (N, C, h, w).

        A step adds its innovation, path - mean, to its new mean. The kept region is the path's own at
        the timestep that a step leads to, so that it ends as the factual's own latents.

        Args:
            path: As `invert` returns it.
            means: The same.
            base: Context of the unconditional prediction, (N, L, D).
            wanted: Context of the prompts, (N, L, D).
            keep: Kept region on the latent grid, (N, 1, h, w), or None.
            where: Edited region on the latent grid, (N, 1, h, w), or None for everything.
            tick: Called after each step.
        """
        x = path[-1]
        both = torch.cat([base, wanted])
        plain = self.options.guidance_scale == 1.0 and where is None  # the prompt's prediction alone
        for step, (timestep, alpha, below) in zip(range(len(self.grid), 0, -1), self.grid.down(), strict=True):
            if plain:
                noise = self.parts.denoiser(x, timestep_batch(timestep, x), wanted)
            else:
                pair = torch.cat([x, x])
                predicted = self.parts.denoiser(pair, timestep_batch(timestep, pair), both)
                unconditional, conditional = predicted.chunk(2)
                noise = guide(unconditional, conditional, self.options.guidance_scale, where)
            mean = posterior_mean(x, noise, alpha, below, self.options.eta)
            x = path[step - 1] + (mean - means[step - 1])  # the difference first: exact where nothing changes
            if keep is not None:
                x = blend(x, path[step - 1], keep)
            tick()
        return x


def feather(keep: Tensor, radius: int = 4) -> Tensor:
    """A keep mask with a soft edge outside it: 1 wherever the mask is, falling over `radius` pixels."""
    blurred = keep
    for _ in range(2):
        blurred = F.avg_pool2d(F.pad(blurred, [radius // 2] * 4, mode="replicate"), radius + 1, stride=1)
    return torch.maximum(keep, blurred)
