"""What an edit did: whether it may stand, probabilities before and after, where the film changed, what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .anatomy import union_mask
from .editor import Edit
from .errors import UserError, is_out_of_memory
from .findings import Intervention
from .specs import EditorSpec

if TYPE_CHECKING:
    from .bundles.bundle import Bundle


@torch.no_grad()
def measure(
    bundle: Bundle, factuals: Tensor, counterfactuals: Tensor, interventions: Sequence[Intervention]
) -> list[dict[str, Any]]:
    """Measures edits with whatever the bundle has; a part that it lacks is left out.

    Args:
        bundle: Its classifier, judge, CLIP-style model and segmenter are used.
        factuals: (N, 1, H, W) in [0, 1].
        counterfactuals: Same shape and range.
        interventions: One a film.

    Returns:
        For each film, as plain data: under "classifier" and "judge" the probabilities "before" and
        "after" by finding, whether the target is "reached" (on its side of 0.5) and whether it was
        "flipped" (reached, and not so before); under "clip" the probability of "{Finding}" against
        "No {Finding}" and "reached"; under "change" mean absolute grey levels of the whole film
        ("mean"), "inside_bones" and "outside_bones".
    """
    rows: list[dict[str, Any]] = [{} for _ in interventions]
    counterfactuals = counterfactuals.to(factuals.device)
    for name in ("classifier", "judge"):
        model = getattr(bundle, name)
        if model is None:
            continue
        before, after = (torch.sigmoid(model(x)).cpu() for x in (factuals, counterfactuals))
        for k, (row, intervention) in enumerate(zip(rows, interventions, strict=True)):
            if intervention.finding not in model.findings:
                continue
            wanted = list(model.findings).index(intervention.finding)
            was, now = (bool((p[k, wanted] > 0.5) == intervention.present) for p in (before, after))
            row[name] = {
                "before": {f: round(float(before[k, i]), 4) for i, f in enumerate(model.findings)},
                "after": {f: round(float(after[k, i]), 4) for i, f in enumerate(model.findings)},
                "reached": now,
                "flipped": now and not was,
            }
    if bundle.clip is not None:
        before, after = (clip_probability(bundle.clip, x, interventions).cpu() for x in (factuals, counterfactuals))
        for k, (row, intervention) in enumerate(zip(rows, interventions, strict=True)):
            row["clip"] = {
                "before": round(float(before[k]), 4),
                "after": round(float(after[k]), 4),
                "reached": bool((after[k] > 0.5) == intervention.present),
            }
    change = (counterfactuals - factuals).abs()
    bones = None if bundle.segmenter is None else union_mask(bundle.segmenter(factuals)) > 0.5
    for k, row in enumerate(rows):
        row["change"] = {"mean": _mean(change[k])}
        if bones is not None:
            row["change"] |= {"inside_bones": _mean(change[k][bones[k]]), "outside_bones": _mean(change[k][~bones[k]])}
    return rows


def clip_probability(clip: Any, films: Tensor, interventions: Sequence[Intervention]) -> Tensor:
    """Probability of "{Finding}" against "No {Finding}", the softmax of the two cosines, (N,).

    Source: Tiu et al., Nature Biomedical Engineering 2022, without the logit scale, as CheXzero does.
    """
    images = clip.image_features(films)
    names = list(dict.fromkeys(i.finding for i in interventions))
    positive = clip.text_features(names)
    negative = clip.text_features([f"No {name}" for name in names])
    index = torch.tensor([names.index(i.finding) for i in interventions], device=films.device)
    margin: Tensor = (images * (positive - negative)[index]).sum(dim=1)
    return torch.sigmoid(margin)


def _mean(values: Tensor) -> float | None:
    return round(float(values.mean()), 5) if values.numel() else None


def describe_error(error: Exception, spec: EditorSpec) -> str:
    """One line: what the user can mend as it is, anything else with the method and who made it."""
    if isinstance(error, UserError):
        return str(error)
    if is_out_of_memory(error):
        return f"not enough memory for method '{spec.name}'; close other programs or choose another --device"
    text = " ".join(str(error).split())[:200]
    return f"method '{spec.name}' of {spec.distribution} failed: {type(error).__name__}: {text}"


def details_of(edit: Edit, k: int) -> dict[str, Any]:
    """What a method's record says of film k: its own entries and those said of all."""
    own = edit.record.get("films", [])
    return {**{key: value for key, value in edit.record.items() if key != "films"}, **(own[k] if own else {})}


def check_edit(edit: Edit, images: Tensor) -> None:
    """Refuses what no method may return: another shape, NaN, values outside [0, 1].

    Raises:
        ValueError: What is wrong.
    """
    if edit.images.shape != images.shape:
        raise ValueError(f"returned images of shape {tuple(edit.images.shape)} for {tuple(images.shape)}")
    if not edit.images.isfinite().all():
        raise ValueError("returned NaN or infinite pixels")
    if float(edit.images.min()) < 0.0 or float(edit.images.max()) > 1.0:
        raise ValueError("returned values outside [0, 1]")
