"""Measures the demo bundle's parts on patients that none of them was trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..anatomy import BONES, STRUCTURES
from ..bundles.bundle import Bundle
from ..bundles.preview import at_preview
from ..diffusion import ddim_grid, denoise, invert
from .films import read_split
from .real import read_real

BATCH = 16


@dataclass(frozen=True)
class Figure:
    """One line of the model card."""

    part: str
    measure: str
    films: str
    value: str
    bar: str = ""
    reached: bool | None = None


def area_under_curve(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the ROC curve, ties counted half; NaN where one class is absent."""
    positive, negative = scores[labels > 0.5], scores[labels <= 0.5]
    if not len(positive) or not len(negative):
        return float("nan")
    above = (positive[:, None] > negative[None]).mean()
    return float(above + 0.5 * (positive[:, None] == negative[None]).mean())


def bootstrap_interval(
    scores: np.ndarray, labels: np.ndarray, patients: np.ndarray, *, draws: int = 500, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the area under the curve, resampling patients."""
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(patients == p) for p in np.unique(patients)]
    values = []
    for _ in range(draws):
        rows = np.concatenate([groups[k] for k in rng.integers(len(groups), size=len(groups))])
        values.append(area_under_curve(scores[rows], labels[rows]))
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)


def psnr(a: Tensor, b: Tensor) -> float:
    """Mean over films of the peak signal-to-noise ratio in dB, peak 1."""
    return float((-10.0 * (a - b).pow(2).mean(dim=(1, 2, 3)).log10()).mean())


def in_batches(call: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Applies a model to (N, 1, H, W), a batch at a time."""
    return torch.cat([call(part) for part in x.split(BATCH)])


@torch.no_grad()
def evaluate(bundle: Bundle, films: Path, nih: Path, report: Callable[[str], None] = print) -> list[Figure]:
    """Every figure of the model card.

    Args:
        bundle: The bundle, with all its parts.
        films: The folder of rendered splits; "validation" is used.
        nih: The folder of real films; their "test" patients are used.
    """
    stack, masks = read_split("validation", films)
    virtual = torch.from_numpy(stack).flatten(0, 1).unsqueeze(1).float() / 255.0
    labels = np.tile(np.concatenate([np.zeros((1, 3)), np.eye(3)]), (len(stack), 1))
    real = read_real(nih, "test", small=False)
    sharp = torch.from_numpy(real.films).unsqueeze(1).float() / 255.0
    figures: list[Figure] = []

    def bar(part: str, measure: str, where: str, value: float, least: float, digits: int = 3) -> None:
        figures.append(Figure(part, measure, where, f"{value:.{digits}f}", f"{least}", value >= least))
        report(f"{part}: {measure}, {where}: {value:.{digits}f} (bar {least})")

    round_trip = in_batches(lambda x: bundle.autoencoder.decode(bundle.autoencoder.encode(x)).clamp(0, 1), virtual)
    bar("autoencoder", "PSNR in dB", "virtual", psnr(round_trip, virtual), 30, 1)
    sharp_trip = in_batches(lambda x: bundle.autoencoder.decode(bundle.autoencoder.encode(x)).clamp(0, 1), sharp)
    bar("autoencoder", "PSNR in dB", f"real ({len(sharp)})", psnr(sharp_trip, sharp), 30, 1)

    small = read_real(nih, "test", small=True)
    reduced = torch.from_numpy(small.films).unsqueeze(1).float() / 255.0
    for name, model in (("classifier", bundle.classifier), ("judge", bundle.judge)):
        scores = in_batches(model, virtual).numpy()
        after = in_batches(model, round_trip).numpy()
        real_scores = in_batches(model, reduced).numpy()
        for k, finding in enumerate(model.findings):
            area = area_under_curve(scores[:, k], labels[:, k])
            bar(name, f"AUC {finding}", "virtual", area, 0.95)
            if name == "judge":
                fall = area - area_under_curve(after[:, k], labels[:, k])
                figures.append(
                    Figure(
                        name,
                        f"fall of AUC {finding} after a round trip",
                        "virtual",
                        f"{fall:.3f}",
                        "under 0.02",
                        fall < 0.02,
                    )
                )
            low, high = bootstrap_interval(real_scores[:, k], small.findings[:, k], small.patients)
            area = area_under_curve(real_scores[:, k], small.findings[:, k])
            figures.append(
                Figure(
                    name, f"AUC {finding}", f"real at 64 px ({len(reduced)})", f"{area:.2f} ({low:.2f} to {high:.2f})"
                )
            )

    for k, finding in enumerate(bundle.classifier.findings):
        direction = bundle.clip.text_features([finding]) - bundle.clip.text_features([f"No {finding}"])
        margin = (in_batches(bundle.clip.image_features, virtual) @ direction.T).numpy()[:, 0]
        bar("clip", f"accuracy {finding}", "virtual", float(((margin > 0) == (labels[:, k] > 0.5)).mean()), 0.9)

    truth = torch.from_numpy(masks).flatten(0, 1)
    found = in_batches(bundle.segmenter, virtual) > 0.5
    found = F.interpolate(found.float(), size=truth.shape[-2:], mode="nearest") > 0.5
    dice = [_dice(found[:, k], truth[:, k]) for k in range(len(STRUCTURES))]
    bar("segmenter", "mean Dice", "virtual", float(np.mean(dice)), 0.85)
    bar("segmenter", "Dice of the bone union", "virtual", _dice(found[:, BONES].any(1), truth[:, BONES].any(1)), 0.85)
    for name, value in zip(STRUCTURES, dice, strict=True):
        figures.append(Figure("segmenter", f"Dice {name}", "virtual", f"{value:.3f}"))

    grid = ddim_grid(bundle.schedule.alphas_cumprod, 50)
    for where, x, least in ((f"virtual ({len(virtual[::8])})", virtual[::8], 28), (f"real ({len(sharp)})", sharp, 26)):
        trips = []
        for part in x.split(BATCH):
            noisy = invert(bundle.denoiser, bundle.autoencoder.encode(part), grid)[-1]
            trips.append(bundle.autoencoder.decode(denoise(bundle.denoiser, noisy, grid)).clamp(0, 1))
        bar("denoiser", "PSNR in dB of DDIM inversion and back, 50 steps", where, psnr(torch.cat(trips), x), least, 1)
    for where, x in ((f"virtual ({len(virtual[::8])})", virtual[::8]), (f"real ({len(sharp)})", sharp)):
        figures += [Figure("preview", measure, where, value) for measure, value in preview_figures(bundle, x)]
    return figures


def compare_preview(preview: Any, autoencoder: Any, classifier: Any, latents: Tensor) -> tuple[float, float]:
    """A preview beside the decoder: PSNR in dB, and the mean difference of the classifier's logits."""
    decoded, made = (in_batches(call, latents).clamp(0, 1) for call in (autoencoder.decode, preview))
    apart = (in_batches(classifier, made) - in_batches(classifier, decoded)).abs().mean()
    return psnr(made, at_preview(decoded, latents)), float(apart)


def preview_figures(bundle: Bundle, films: Tensor) -> list[tuple[str, str]]:
    """How near a preview is to the decoder that it stands for: films, logits, and the gradient that edits follow."""
    latents = in_batches(bundle.autoencoder.encode, films)
    near, apart = compare_preview(bundle.preview, bundle.autoencoder, bundle.classifier, latents)
    alike = []
    for part in latents.split(BATCH):
        ways = []
        for decode in (bundle.autoencoder.decode, bundle.preview):
            with torch.enable_grad():
                start = part.detach().requires_grad_(True)
                logits = bundle.classifier(decode(start).clamp(0, 1))
                ways.append([torch.autograd.grad(row.sum(), start, retain_graph=True)[0] for row in logits.unbind(1)])
        alike += [F.cosine_similarity(a.flatten(1), b.flatten(1)) for a, b in zip(*ways, strict=True)]
    return [
        ("PSNR in dB to the decoder", f"{near:.1f}"),
        ("mean difference of the classifier's logits", f"{apart:.3f}"),
        ("cosine of the logits' gradients", f"{float(torch.cat(alike).mean()):.3f}"),
    ]


def _dice(a: Tensor, b: Tensor) -> float:
    return float(2.0 * (a & b).sum() / (a.sum() + b.sum()).clamp(min=1))


def table(figures: list[Figure]) -> str:
    """Figures as a Markdown table."""
    rows = ["| part | measure | films | value | bar | reached |", "|---|---|---|---|---|---|"]
    for f in figures:
        reached = "" if f.reached is None else ("yes" if f.reached else "**no**")
        rows.append(f"| {f.part} | {f.measure} | {f.films} | {f.value} | {f.bar} | {reached} |")
    return "\n".join(rows)
