"""The paper's editor: per-image fine-tuning of a diffusion model's attention layers.

Gökmen & Konukoglu, "Counterfactual Disease Removal and Generation in Chest X-Rays Using Diffusion
Models".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from cfkit import EditorSpec, hookimpl, option


@dataclass(frozen=True)
class OursOptions:
    """Options of the paper's editor; the defaults are the paper's."""

    speed: Literal["exact", "fast"] = option(
        "exact",
        "exact: every step as preset or bundle have it; fast (cfkit edit's own default): cheaper or fewer updates.",
    )
    epochs: int = option(2, "Full denoising passes.", minimum=1, maximum=1000)
    num_inference_steps: int = option(50, "DDIM steps of the inversion and of each pass.", minimum=1, maximum=999)
    skip: float = option(
        0.0, "Share of the noisiest steps left out of inversion and passes; 0 in the paper.", minimum=0.0, maximum=0.95
    )
    update_every: int = option(
        1, "Steps from one update to the next; those between denoise and learn nothing.", minimum=1, maximum=1000
    )
    lr: float = option(2e-5, "Learning rate.", minimum=0.0, maximum=1.0)
    lr_decay: Literal["none", "cosine"] = option("none", "How the learning rate falls over all steps of all passes.")
    optimizer: Literal["adamw", "adam"] = option("adamw", "Optimiser of the trained layers.")
    layers: Literal["attention", "residual", "residual+attention", "attention+input", "all"] = option(
        "attention", "Layers of the denoiser that are trained for each film."
    )
    bone_mask: bool = option(True, "Keep the bones by noise-matched blending (eq. 13, 14).")
    blending: Literal["noise", "trajectory"] = option(
        "noise", "What the bones are blended from: the noised source (eq. 13) or its own inversion."
    )
    inversion_iterations: int = option(
        0, "Fixed-point iterations of each inversion step; 0 is the paper's inversion.", minimum=0, maximum=20
    )
    classification: Literal["bce", "soft-kl"] = option("bce", "Loss towards the target (bce: eq. 11, 12).")
    classification_weight: float = option(1.0, "Weight of the classification loss.", minimum=0.0)
    temperature: float = option(1.5, "Temperature of soft-kl.", minimum=0.01)
    reconstruction: Literal["image", "roundtrip", "latent", "none"] = option(
        "image",
        "L1 of the predicted clean film to the factual (image: eq. 15), to what the autoencoder makes of it "
        "(roundtrip), or between their latents.",
    )
    reconstruction_weight: float = option(1.0, "Weight of the reconstruction loss.", minimum=0.0)
    anchor_weight: float = option(0.0, "Weight of the squared change of the other findings' logits.", minimum=0.0)
    release_grid: bool = option(False, "Timesteps as in the public release where steps do not divide 1000.")
    decoder: Literal["full", "preview"] = option(
        "full", "What the losses look through: the bundle's decoder, or the small one distilled from it."
    )
    frames: int = option(6, "Most passes that are decoded as frames of the animation.", minimum=1, maximum=1000)
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
        "paper": {
            "epochs": 2,
            "num_inference_steps": 50,
            "skip": 0.0,
            "update_every": 1,
            "lr": 2e-5,
            "lr_decay": "none",
            "optimizer": "adamw",
            "layers": "attention",
            "bone_mask": True,
            "blending": "noise",
            "inversion_iterations": 0,
            "classification": "bce",
            "classification_weight": 1.0,
            "anchor_weight": 0.0,
            "decoder": "full",
            "reconstruction": "image",
            "reconstruction_weight": 1.0,
            "release_grid": False,
            "restore_detail": False,
            "shrink": 0.0,
        },
        "released": {
            "epochs": 3,
            "num_inference_steps": 50,
            "skip": 0.0,
            "update_every": 1,
            "lr": 1e-5,
            "lr_decay": "none",
            "optimizer": "adam",
            "layers": "attention+input",
            "bone_mask": True,
            "blending": "noise",
            "inversion_iterations": 0,
            "classification": "soft-kl",
            "classification_weight": 1.5,
            "temperature": 1.5,
            "anchor_weight": 0.01,
            "decoder": "full",
            "reconstruction": "latent",
            "reconstruction_weight": 0.1,
            "release_grid": True,
            "restore_detail": False,
            "shrink": 0.0,
        },
    }

    def faster(self) -> dict[str, Any]:
        """A quarter of the updates, each four times as large: half the DDIM steps, an update at every second.

        A recipe of few steps has none to leave out.
        """
        if self.num_inference_steps < 20:
            return {}
        steps = -(-self.num_inference_steps // 2)
        return {"num_inference_steps": steps, "update_every": 2 * self.update_every, "lr": min(4.0 * self.lr, 1.0)}


@hookimpl
def register_editors() -> list[EditorSpec]:
    return [
        EditorSpec(
            name="ours",
            options=OursOptions,
            target="cfkit_ours.editor:OursEditor",
            summary="Per-image fine-tuned diffusion, guided by a classifier, bones kept.",
            reference="Gökmen & Konukoglu, Counterfactual Disease Removal and Generation in Chest X-Rays "
            "Using Diffusion Models",
        )
    ]
