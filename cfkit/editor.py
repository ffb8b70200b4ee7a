"""The protocol that every method follows, and what an edit is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from .errors import UserError
from .findings import Intervention, canonical

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Progress = Callable[[int, int], None]
"""Called with the steps done and the steps in all."""


@dataclass
class Edit:
    """What a method returns.

    Attributes:
        images: The counterfactuals, (N, 1, H, W) in [0, 1].
        mask: What was kept, (N, 1, H, W) in [0, 1], or None.
        frames: The way there, (N, F, 1, H, W) in [0, 1], or None.
        record: Anything the method wants kept with the result, plain data for JSON. Under "films" it may
            hold a list of one dict a film; the rest is said of all.
        heatmap: Where the method says that it changed the films, (N, 1, H, W), 0 or more, or None.
    """

    images: Tensor
    mask: Tensor | None = None
    frames: Tensor | None = None
    record: dict[str, Any] = field(default_factory=dict)
    heatmap: Tensor | None = None


@runtime_checkable
class Editor(Protocol):
    """A method, built as `Class(bundle, options)`; `edit` is stateless and deterministic."""

    def edit(
        self,
        images: Tensor,
        interventions: Sequence[Intervention],
        *,
        masks: Tensor | None = None,
        generators: Sequence[torch.Generator] | None = None,
        progress: Progress | None = None,
    ) -> Edit:
        """Edits films.

        Args:
            images: Factuals, (N, 1, H, W) float in [0, 1].
            interventions: One a film.
            masks: 1 where a film is to be kept as it is, (N, 1, H, W) in [0, 1]; None leaves it to
                the method.
            generators: One a film, so that a result depends neither on the batch nor on the order;
                None seeds each with 0.
            progress: Called as the work goes on.

        Raises:
            UserError: Shapes, ranges or a finding that the method's models do not know.
        """
        ...


def check_inputs(
    images: Tensor,
    interventions: Sequence[Intervention],
    findings: tuple[str, ...],
    *,
    masks: Tensor | None = None,
    generators: Sequence[torch.Generator] | None = None,
) -> list[int]:
    """Checks what `edit` was given; every method's first line.

    Returns:
        For each intervention the index of its finding in `findings`.

    Raises:
        UserError: What is wrong, in one line.
    """
    if images.ndim != 4 or images.shape[1] != 1 or not images.is_floating_point():
        raise UserError(f"images: float (N, 1, H, W) wanted, {images.dtype} {tuple(images.shape)} given")
    if images.shape[0] == 0:
        raise UserError("images: the batch is empty")
    if not images.isfinite().all():
        raise UserError("images: NaN or infinite values")
    if float(images.min()) < 0.0 or float(images.max()) > 1.0:
        raise UserError("images: values outside [0, 1]")
    for name, given in (("interventions", interventions), ("generators", generators)):
        if given is not None and len(given) != len(images):
            raise UserError(f"{name}: one a film wanted, {len(given)} given for {len(images)} films")
    if masks is not None:
        if masks.shape != images.shape:
            raise UserError(f"masks: the films' shape {tuple(images.shape)} wanted, {tuple(masks.shape)} given")
        if not bool(((masks >= 0) & (masks <= 1)).all()):  # NaN neither
            raise UserError("masks: values outside [0, 1]")
    return [findings.index(canonical(i.finding, findings)) for i in interventions]
