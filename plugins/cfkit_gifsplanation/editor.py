"""Latent shift: z + lambda dy/dz, searched for and swept, over all films at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cfkit import Bundle, Edit, Intervention
from cfkit.detail import compose
from cfkit.editor import Progress, check_inputs

from . import GifsplanationOptions

Decode = Callable[[Tensor], Tensor]
STRIDE = 4  # steps of the search that a preview takes at once


@dataclass(frozen=True)
class Line:
    """Where films are shifted along: z + lambda * gradient.

    Attributes:
        latents: z, (N, C, h, w).
        gradient: Of each film's prediction with respect to them, the same shape.
        target: Index of each film's finding, (N,).
        present: Whether it is to be there, (N,) bool.
        first: Images (N, 1, H, W) and predictions (N,) where nothing is shifted.
    """

    latents: Tensor
    gradient: Tensor
    target: Tensor
    present: Tensor
    first: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Found:
    """What a search found, a film each.

    Attributes:
        bounds: How far it is shifted, 0 or less.
        last: Images (N, 1, H, W) and predictions (N,) at the bounds.
    """

    bounds: list[float]
    last: tuple[Tensor, Tensor]


class GifsplanationEditor:
    """Counterfactuals by latent shift (Cohen et al., MIDL 2021, section 3).

    The public package lowers a prediction only. A finding is added here by the same search on
    1 - y, whose gradient points the other way, so both directions stop by the same rules.

    Args:
        bundle: Needs autoencoder and classifier.
        options: See `GifsplanationOptions`.
    """

    def __init__(self, bundle: Bundle, options: GifsplanationOptions):
        self.bundle, self.options = bundle, options
        self.autoencoder, self.classifier = bundle.require("autoencoder", "classifier")
        self.preview: Decode | None = None
        if options.search == "preview":
            (self.preview,) = bundle.require("preview")
        self.shifts = list_shifts(options)

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
        """Edits films; see `cfkit.Editor`. Nothing is drawn, so generators decide nothing.

        The frames lead from the factual's reconstruction to the counterfactual; the heatmap is the mean
        change from one to the next. The record holds, a film each, "lambdas" and "predictions" along them.
        """
        findings = tuple(self.classifier.findings)
        indices = check_inputs(images, interventions, findings, masks=masks, generators=generators)
        images = images.to(self.bundle.device, torch.float32)
        target = torch.tensor(indices, device=images.device)
        present = torch.tensor([i.present for i in interventions], device=images.device)
        line = self.find_line(images, target, present)
        found = self.search(line, start=self.look_ahead(line) if self.preview is not None else None)
        first, last = line.first, found.last
        if progress:
            progress(1, 2)  # the search is one step, since its length is not known beforehand
        count = self.options.frames
        shares = torch.linspace(0.0, 1.0, count, dtype=torch.float64)
        shifts = torch.tensor(found.bounds, dtype=torch.float64).unsqueeze(1) * shares  # (N, F), 0 to the bound
        rows = torch.arange(len(images), device=images.device).repeat_interleave(count - 2)
        between = first[0][:0], first[1][:0]
        if count > 2:
            between = self.decode_shifted(line, rows, shifts[:, 1:-1].flatten())
        frames, predictions = (
            torch.cat([a.unsqueeze(1), b.unflatten(0, (len(images), count - 2)), c.unsqueeze(1)], dim=1)
            for a, b, c in zip(first, between, last, strict=True)  # the ends are the search's own
        )
        frames = compose(
            images.unsqueeze(1),
            frames,
            frames[:, :1],
            restore_detail=self.options.restore_detail,
            shrink=self.options.shrink,
        )
        if masks is not None:
            masks = masks.to(images.device, images.dtype)
            frames = torch.lerp(frames, images.unsqueeze(1).expand_as(frames), masks.unsqueeze(1))
        if progress:
            progress(2, 2)
        sign = torch.where(present, -1.0, 1.0).cpu().unsqueeze(1)
        towards = torch.where(present.unsqueeze(1), 1.0 - predictions, predictions)
        films = zip((sign * shifts).tolist(), towards.tolist(), strict=True)
        record = {"films": [{"lambdas": lambdas, "predictions": predicted} for lambdas, predicted in films]}
        heatmap = (frames[:, 1:] - frames[:, :-1]).abs().mean(dim=1)  # (N, 1, H, W)
        return Edit(images=frames[:, -1], mask=masks, frames=frames, record=record, heatmap=heatmap)

    def find_line(self, images: Tensor, target: Tensor, present: Tensor) -> Line:
        """The line of each film: its latent, and the gradient of its prediction with respect to that.

        The prediction is the probability of what is to vanish: y for removal, 1 - y for synthesis.

        Args:
            images: (N, 1, H, W) in [0, 1].
            target: Index of each film's finding, (N,).
            present: Whether it is to be there, (N,) bool.
        """
        latents: Tensor = self.autoencoder.encode(images)
        with torch.enable_grad():
            z = latents.detach().requires_grad_(True)
            decoded = self.autoencoder.decode(z)
            predicted = self.predict(decoded, target, present)
            (gradient,) = torch.autograd.grad(predicted.sum(), z)
        return Line(latents, gradient, target, present, (decoded.detach(), predicted.detach()))

    def predict(self, images: Tensor, target: Tensor, present: Tensor) -> Tensor:
        """Probability of what is to vanish, (N,)."""
        logits = self.classifier(images).gather(1, target.unsqueeze(1)).squeeze(1)
        return torch.sigmoid(torch.where(present, -logits, logits))

    def decode_shifted(
        self, line: Line, rows: Tensor, shifts: Tensor, decode: Decode | None = None
    ) -> tuple[Tensor, Tensor]:
        """Decodes films `rows` (M,) at `shifts` (M,), a batch at a time: images (M, 1, H, W), predictions (M,)."""
        images, predictions = [], []
        for part, shift in zip(
            rows.split(self.options.sweep_batch), shifts.split(self.options.sweep_batch), strict=True
        ):
            step = shift.to(line.latents.device, line.latents.dtype).view(-1, 1, 1, 1)
            decoded = (decode or self.autoencoder.decode)(line.latents[part] + step * line.gradient[part])
            images.append(decoded)
            predictions.append(self.predict(decoded, line.target[part], line.present[part]))
        return torch.cat(images), torch.cat(predictions)

    def search(self, line: Line, *, start: list[int] | None = None) -> Found:
        """How far each film is shifted.

        From the first of `self.shifts`, or from those of `start`, one after another until a stop rule holds; all
        films that are still searching take their step together.
        """
        rows = torch.arange(len(line.latents), device=line.latents.device)
        at = [0] * len(rows) if start is None else list(start)
        images, predicted = (x.clone() for x in line.first)
        last = predicted
        if any(at):
            images, predicted = self.decode_shifted(line, rows, self.shifts_at(at, rows))
            last = torch.maximum(last, predicted)  # what came before the start is not known
        searching = rows
        while True:
            current = predicted[searching]
            stop = self.stops(line.first, searching, self.shifts_at(at, searching), images[searching], current, last)
            searching, last = searching[~stop], current[~stop]
            if not len(searching):
                return Found([self.shifts[k] for k in at], (images, predicted))
            for k in searching.tolist():
                at[k] += 1
            shifts = self.shifts_at(at, searching)
            images[searching], predicted[searching] = self.decode_shifted(line, searching, shifts)

    def look_ahead(self, line: Line) -> list[int]:
        """One step before where the preview's search stops: by strides, then by halves of the last stride."""
        rows = torch.arange(len(line.latents), device=line.latents.device)
        first = self.decode_shifted(line, rows, 0.0 * rows, self.preview)
        low = [0] * len(rows)
        high: list[int | None] = [None] * len(rows)
        last = first[1].clone()
        while searching := [k for k, top in enumerate(high) if top is None or top - low[k] > 1]:
            ahead = [low[k] + STRIDE if (top := high[k]) is None else (low[k] + top) // 2 for k in range(len(rows))]
            ahead = [min(k, len(self.shifts) - 1) for k in ahead]
            part = rows[searching]
            shifts = self.shifts_at(ahead, part)
            images, predicted = self.decode_shifted(line, part, shifts, self.preview)
            stop = self.stops(first, part, shifts, images, predicted, last[part])
            for k, stopped in zip(searching, stop.tolist(), strict=True):
                if stopped:
                    high[k] = ahead[k]
                else:
                    low[k] = ahead[k]
            last[part[~stop]] = predicted[~stop]
        return low

    def shifts_at(self, at: list[int], rows: Tensor) -> Tensor:
        """The shifts of films `rows` (M,), which are at `at` of `self.shifts`: (M,) float64."""
        return torch.tensor([self.shifts[at[k]] for k in rows.tolist()], dtype=torch.float64)

    def stops(
        self, first: tuple[Tensor, Tensor], rows: Tensor, shifts: Tensor, images: Tensor, current: Tensor, last: Tensor
    ) -> Tensor:
        """Whether the search of films `rows` (M,) ends where they are: (M,) bool.

        Args:
            first: Images and predictions of all films where nothing is shifted.
            rows: The films.
            shifts: Where they are.
            images: They themselves, (M, 1, H, W).
            current: Their predictions, (M,).
            last: Those before.
        """
        options = self.options
        reference, initial = (x[rows] for x in first)
        allowed = options.stop_pixels * (2.0 * reference - 1.0).abs().flatten(1).sum(dim=1)  # films in [-1, 1]
        change = 2.0 * (images - reference).abs().flatten(1).sum(dim=1)
        stop = (
            (current < options.stop_probability)
            | (initial - current > options.stop_difference)
            | (shifts <= -options.stop_shift).to(current.device)
            | (change > allowed)
        )
        return stop | (current > last) if options.stop_turning else stop


def list_shifts(options: GifsplanationOptions) -> list[float]:
    """The shifts that a search tries, one after another: from 0 downward by a step that grows."""
    shifts = [0.0]
    while shifts[-1] > -options.stop_shift:
        shifts.append(shifts[-1] - options.step + math.floor(shifts[-1] / 10))
    return shifts
