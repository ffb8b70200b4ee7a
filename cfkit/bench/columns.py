"""What is known of a finished case, by name: what a metric's `update` may ask for."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from ..bundles.audited import Audited
from ..bundles.bundle import Bundle
from ..errors import UserError, unknown
from ..findings import Intervention
from ..metrics.transition import insertion_curve
from ..plugins import load_plugins
from ..specs import MetricSpec, import_target

COLUMNS = {
    "factual": "films before, (N, 1, H, W) in [0, 1]",
    "counterfactual": "films after, same shape",
    "truth": "true counterfactuals, same shape; virtual patients only",
    "structures": "the 14 structures of the factual, (N, 14, H, W) bool: the data set's, else the segmenter's",
    "present": "whether the finding was to be there, (N,) bool",
    "target": "column of the finding in the judge's probabilities, (N,)",
    "judge_before": "the judge's probabilities, (N, K)",
    "judge_after": "the same of the edit",
    "classifier_before": "the guiding classifier's probabilities, (N, K)",
    "classifier_after": "the same of the edit",
    "audited_before": "probabilities of the classifier that is audited, (N, L)",
    "audited_after": "the same of the edit",
    "audited_target": "column of the finding in those, (N,)",
    "clip_before": "normalised CLIP features, (N, D)",
    "clip_after": "the same of the edit",
    "clip_positive": 'features of the prompt "{Finding}", (N, D)',
    "clip_negative": 'features of "No {Finding}", (N, D)',
    "features_before": "features for Fréchet distances, (N, F)",
    "features_after": "the same of the edit",
    "reference": "features of all films of the data set that are as wanted, (M, F)",
    "transition": "the judge's probability of what was wanted as the edit's pixels enter, (N, 11)",
    "perceptual": "distance in the judge's feature maps, (N,)",
    "null_edit": "what comes of asking for what is already so, (N, 1, H, W)",
    "returned": "what comes of an edit that is taken back, (N, 1, H, W)",
}


def choose_metrics(names: Sequence[str]) -> list[MetricSpec]:
    """The installed metrics, or those that are named.

    Raises:
        UserError: One is not installed.
    """
    known = load_plugins().metrics
    for name in names:
        if name not in known:
            raise UserError(unknown("metric", name, known))
    return [known[name] for name in names] if names else list(known.values())


def columns_of(metric: Metric) -> list[str]:
    """The columns that a metric asks for: the parameters of its `update`.

    Raises:
        ValueError: There is no such column.
    """
    names = list(inspect.signature(metric.update).parameters)
    for name in names:
        if name not in COLUMNS:
            raise ValueError(unknown("column", name, COLUMNS))
    return names


def asked_columns(specs: Sequence[MetricSpec]) -> frozenset[str]:
    """The columns that any of the metrics asks for; one that cannot be imported asks for nothing."""
    asked: set[str] = set()
    for spec in specs:
        try:
            asked.update(inspect.signature(import_target(spec.target).update).parameters)
        except Exception:  # a stranger's import may raise anything; scoring names it
            continue
    return frozenset(asked)


@torch.no_grad()
def describe_films(bundle: Bundle, films: Tensor, audited: Audited | None = None) -> dict[str, Tensor]:
    """What models say of films (N, 1, H, W), on the CPU; a part that the bundle lacks is left out."""
    films = films.to(bundle.device)
    said: dict[str, Tensor] = {}
    for name in ("judge", "classifier"):
        model = getattr(bundle, name)
        if model is not None:
            said[name] = torch.sigmoid(model(films))
    if audited is not None:
        said["audited"] = torch.sigmoid(audited(films))
    if bundle.clip is not None:
        said["clip"] = bundle.clip.image_features(films)
    if bundle.features is not None:
        said["features"] = bundle.features(films)
    return {name: value.float().cpu() for name, value in said.items()}


@torch.no_grad()
def describe_edits(
    bundle: Bundle,
    factuals: Tensor,
    counterfactuals: Tensor,
    interventions: Sequence[Intervention],
    audited: Audited | None = None,
    asked: Collection[str] = COLUMNS,
) -> dict[str, Tensor]:
    """The columns of edits that take a model, on the CPU.

    Args:
        bundle: Its judge, classifier, CLIP-style model and features are used, as far as it has them.
        factuals: (N, 1, H, W) in [0, 1].
        counterfactuals: Same shape and range.
        interventions: One a film.
        audited: The classifier that is audited, if any.
        asked: Columns; "transition" and "perceptual", which take long, are made if they are among them.
    """
    columns = {f"{name}_after": value for name, value in describe_films(bundle, counterfactuals, audited).items()}
    if audited is not None and all(i.finding in audited.findings for i in interventions):
        columns["audited_target"] = torch.tensor([audited.findings.index(i.finding) for i in interventions])
    factuals, counterfactuals = factuals.to(bundle.device), counterfactuals.to(bundle.device)
    judge, clip = bundle.judge, bundle.clip
    if clip is not None:
        columns["clip_positive"] = clip.text_features([i.finding for i in interventions]).float().cpu()
        columns["clip_negative"] = clip.text_features([f"No {i.finding}" for i in interventions]).float().cpu()
    known = judge is not None and all(i.finding in judge.findings for i in interventions)
    if known:
        target = torch.tensor([list(judge.findings).index(i.finding) for i in interventions], device=factuals.device)
        present = torch.tensor([i.present for i in interventions], device=factuals.device)

        def wanted(films: Tensor) -> Tensor:
            p: Tensor = torch.sigmoid(judge(films)).gather(1, target.unsqueeze(1)).squeeze(1)
            return torch.where(present, p, 1.0 - p)

        columns["target"] = target.cpu()
        if "transition" in asked:
            columns["transition"] = insertion_curve(wanted, factuals, counterfactuals).float().cpu()
    if "perceptual" in asked and hasattr(judge, "feature_maps"):
        columns["perceptual"] = perceptual_distance(judge, factuals, counterfactuals).float().cpu()
    return columns


def perceptual_distance(judge: Any, factuals: Tensor, counterfactuals: Tensor) -> Tensor:
    """Squared distance of channel-normalised feature maps, averaged over places, summed over stages: (N,)."""
    total = torch.zeros(len(factuals), device=factuals.device)
    for a, b in zip(judge.feature_maps(factuals), judge.feature_maps(counterfactuals), strict=True):
        a, b = (torch.nn.functional.normalize(x, dim=1) for x in (a, b))
        total += (a - b).pow(2).sum(dim=1).mean(dim=(1, 2))
    return total
