"""Conformance of a method: what everyone who calls an editor relies on.

from cfkit.testing import check_editor

def test_my_method():
    check_editor(cfkit.load_editor("mine", device="cpu"), cfkit.load_bundle("demo", device="cpu"))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .bundles.bundle import Bundle
from .bundles.manifest import PARTS
from .editor import Edit, Editor
from .errors import UserError
from .findings import Intervention
from .images import read_film


def check_editor(editor: Editor, bundle: Bundle, *, tolerance: float = 1e-4) -> None:
    """Checks that an editor keeps the contract.

    Shape, range, type and device of what it returns; the same films, interventions and generators
    give the same result, and a film's does not depend on the others of its batch; nothing it is
    given or made of is changed, nothing carries a gradient; an unknown finding and wrong shapes are
    refused with a `cfkit.UserError`; progress ends at its total.

    Args:
        editor: Built on `bundle`; with few steps, since it is called six times.
        bundle: The bundle; its classifier's findings are used where it has one.
        tolerance: Most that a film may differ, in grey levels of [0, 1], alone and in a batch.

    Raises:
        AssertionError: Names the first point that does not hold.
    """
    case = _Case(editor, bundle)
    given, weights = case.images.clone(), _fingerprint(bundle)
    steps: list[tuple[int, int]] = []
    edit = case.edit(images=given, progress=lambda done, total: steps.append((done, total)))
    _check_result(edit, case.images, bundle)
    _that(torch.equal(given, case.images), "edit changes the films that it is given")
    after = _fingerprint(bundle)  # of more parts, perhaps: they are loaded when they are first used
    unchanged = all(after[name] == value for name, value in weights.items())
    _that(unchanged, "edit changes a model of the bundle, or leaves gradients there")
    if steps:
        _that(steps[-1][0] == steps[-1][1], f"progress ends at {steps[-1][0]} of {steps[-1][1]}")
        _that([d for d, _ in steps] == sorted(d for d, _ in steps), "progress goes backwards")
    again = case.edit()
    _that(torch.equal(edit.images, again.images), "two calls with the same generators differ; edit is to be stateless")
    _check_batch_independence(case, edit, tolerance)
    with torch.no_grad():
        quiet = case.edit()
    _that(torch.equal(edit.images, quiet.images), "the result depends on whether gradients are enabled outside")
    _check_refusals(case)


class _Case:
    """Two films and what is to be done to them."""

    def __init__(self, editor: Editor, bundle: Bundle):
        self.editor = editor
        films = [read_film(f"sample:{name}").working(bundle.image_size) for name in ("effusion", "normal")]
        self.images = torch.stack(films).to(bundle.device)
        known = bundle.classifier.findings if bundle.classifier is not None else ("Pleural Effusion", "Cardiomegaly")
        self.interventions = [Intervention(known[-1], False), Intervention(known[0], True)]

    def edit(self, rows: Sequence[int] = (0, 1), **given: Any) -> Edit:
        given = {
            "images": self.images[list(rows)],
            "interventions": [self.interventions[k] for k in rows],
            "generators": [torch.Generator().manual_seed(7 + k) for k in rows],
            **given,
        }
        return self.editor.edit(given.pop("images"), given.pop("interventions"), **given)


def _check_result(edit: Edit, images: Tensor, bundle: Bundle) -> None:
    _that(isinstance(edit, Edit), f"edit returns {type(edit).__name__}, not a cfkit.Edit")
    found = edit.images
    _that(found.shape == images.shape, f"images of shape {tuple(found.shape)} for films of {tuple(images.shape)}")
    _that(found.dtype == torch.float32, f"images are {found.dtype}, not torch.float32")
    _that(found.device.type == bundle.device.type, f"images are on {found.device}, the bundle on {bundle.device}")
    _that(not found.requires_grad, "images carry a gradient")
    _that(bool(found.isfinite().all()), "images hold NaN or infinite values")
    _that(float(found.min()) >= 0.0 and float(found.max()) <= 1.0, "images leave [0, 1]")
    if edit.mask is not None:
        _that(edit.mask.shape == images.shape, f"mask of shape {tuple(edit.mask.shape)} for {tuple(images.shape)}")
    if edit.frames is not None:
        shape = edit.frames.shape
        fits = len(shape) == 5 and shape[0] == len(images) and shape[2:] == images.shape[1:]
        _that(fits, f"frames of shape {tuple(shape)}; (N, F, 1, H, W) is wanted")
        _that(float(edit.frames.min()) >= 0.0 and float(edit.frames.max()) <= 1.0, "frames leave [0, 1]")
    _that(isinstance(edit.record, dict), "record is no dict")


def _check_batch_independence(case: _Case, edit: Edit, tolerance: float) -> None:
    for k in range(2):
        alone = case.edit([k])
        difference = float((alone.images[0] - edit.images[k]).abs().max())
        _that(difference <= tolerance, f"film {k} differs by {difference:.2g} when it is edited alone")
    turned = case.edit([1, 0])
    difference = float((turned.images.flip(0) - edit.images).abs().max())
    _that(difference <= tolerance, f"films differ by {difference:.2g} when their order is turned round")


def _check_refusals(case: _Case) -> None:
    def refuses(what: str, call: Callable[[], object]) -> None:
        try:
            call()
        except UserError:
            return
        except Exception as error:
            raise AssertionError(f"{what} raises {type(error).__name__}, not a cfkit.UserError") from error
        raise AssertionError(f"{what} is not refused")

    refuses("an unknown finding", lambda: case.edit(interventions=[Intervention("Not A Finding", True)] * 2))
    refuses("images of three channels", lambda: case.edit(images=case.images.expand(-1, 3, -1, -1)))
    refuses("images outside [0, 1]", lambda: case.edit(images=case.images + 1.0))
    refuses("one intervention for two films", lambda: case.edit(interventions=case.interventions[:1]))
    refuses("masks of another size", lambda: case.edit(masks=case.images[..., 1:]))
    refuses("masks of NaN", lambda: case.edit(masks=case.images * torch.nan))


def _fingerprint(bundle: Bundle) -> dict[str, tuple[float, bool, bool]]:
    """Of every weight of the parts that are loaded: its sum, whether it wants and whether it has a gradient."""
    found = {}
    for part in PARTS:
        loaded = bundle.__dict__.get(part)
        own = {part: loaded} if isinstance(loaded, nn.Module) else getattr(loaded, "__dict__", {})
        for key, module in own.items():
            if not isinstance(module, nn.Module):
                continue
            for name, weight in [*module.named_parameters(), *module.named_buffers()]:
                total = float(weight.detach().cpu().double().sum())
                found[f"{part}.{key}.{name}"] = (total, weight.requires_grad, weight.grad is not None)
    return found


def _that(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)
