"""Gifsplanation: the latent of an autoencoder, shifted along a classifier's gradient.

Cohen et al., "Gifsplanation via Latent Shift: A Simple Autoencoder Approach to Counterfactual
Generation for Chest X-rays", MIDL 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from cfkit import EditorSpec, hookimpl, option


@dataclass(frozen=True)
class GifsplanationOptions:
    """Options of the latent shift; the defaults are the public package's."""

    speed: Literal["exact", "fast"] = option(
        "exact",
        "fast (cfkit edit's own default): a bundle's preview, if any, searches as far as one step before the end.",
    )
    search: Literal["full", "preview"] = option(
        "full", "What goes ahead in the search: the bundle's decoder, or the small one distilled from it."
    )
    step: float = option(10.0, "First step of the search; steps grow by a tenth of the shift.", minimum=1e-6)
    stop_turning: bool = option(True, "Stop the search where the prediction turns back.")
    stop_probability: float = option(
        0.05, "Stop within this probability of the target (0.05: under 0.05 for removal).", minimum=0.0, maximum=1.0
    )
    stop_difference: float = option(
        0.8, "Stop where the prediction has moved by more than this.", minimum=0.0, maximum=1.0
    )
    stop_shift: float = option(3000.0, "Stop where the shift passes this.", minimum=0.0)
    stop_pixels: float = option(
        0.05, "Stop where the summed change passes this share of the film's sum, both in [-1, 1].", minimum=0.0
    )
    frames: int = option(10, "Films of the sweep between the factual and the counterfactual.", minimum=2, maximum=1000)
    sweep_batch: int = option(8, "Most films that are decoded at once.", minimum=1)
    restore_detail: bool = option(
        False, "Add back what the autoencoder loses of the factual, so that only the edit shows."
    )
    shrink: float = option(
        0.0,
        "Changes under this many grey levels of [0, 1] vanish, larger ones hardly shrink.",
        minimum=0.0,
        maximum=1.0,
    )

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "released": {
            "step": 10.0,
            "stop_turning": True,
            "stop_probability": 0.05,
            "stop_difference": 0.8,
            "stop_shift": 3000.0,
            "stop_pixels": 0.05,
            "search": "full",
            "frames": 10,
            "restore_detail": False,
            "shrink": 0.0,
        }
    }


@hookimpl
def register_editors() -> list[EditorSpec]:
    return [
        EditorSpec(
            name="gifsplanation",
            options=GifsplanationOptions,
            target="cfkit_gifsplanation.editor:GifsplanationEditor",
            summary="Latent shift: an autoencoder's latent moved along a classifier's gradient.",
            reference="Cohen et al., Gifsplanation via Latent Shift: A Simple Autoencoder Approach to "
            "Counterfactual Generation for Chest X-rays, MIDL 2021",
        )
    ]
