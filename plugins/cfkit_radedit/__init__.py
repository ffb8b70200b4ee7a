"""RadEdit: edits by text, with an edit mask and a keep mask.

Pérez-García et al., "RadEdit: stress-testing biomedical vision models via diffusion image editing",
ECCV 2024.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from cfkit import EditorSpec, hookimpl, option


@dataclass(frozen=True)
class RadEditOptions:
    """Options of RadEdit; the defaults are its authors'."""

    num_inference_steps: int = option(200, "Steps of the whole grid, any number.", minimum=1, maximum=1000)
    skip: float = option(0.3, "Share of the noisiest steps that is not replayed.", minimum=0.0, maximum=0.99)
    guidance_scale: float = option(7.5, "Weight of the prompt (classifier-free guidance).", minimum=0.0)
    eta: float = option(1.0, "1: DDPM; towards 0 the noise of a step gets less.", minimum=0.0, maximum=1.0)
    prompt: str = option("", "Free text instead of the finding's own prompt.")
    present_prompt: str = option("Present {finding}", "Prompt that adds a finding.")
    absent_prompt: str = option("No apparent {finding}", "Prompt that removes a finding.")
    inversion_prompt: str = option("", "Prompt of the inversion and of the unconditional prediction.")
    bone_mask: bool = option(True, "Keep the bones where no other keep mask is given.")
    edit: str = option("", 'Structures to edit, e.g. "Left Lung,Right Lung"; everything where not given.')
    edit_mask: str = option("", "Picture of the region to edit (white: edit), of the films' shape.")
    paste: bool = option(True, "Put the kept region's own pixels back, so that the decoder cannot touch them.")
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
            "num_inference_steps": 200,
            "skip": 0.3,
            "guidance_scale": 7.5,
            "eta": 1.0,
            "inversion_prompt": "",
            "bone_mask": True,
            "paste": False,
            "restore_detail": False,
            "shrink": 0.0,
        }
    }


@hookimpl
def register_editors() -> list[EditorSpec]:
    return [
        EditorSpec(
            name="radedit",
            options=RadEditOptions,
            target="cfkit_radedit.editor:RadEditEditor",
            summary="Text-guided diffusion editing with edit and keep masks.",
            reference="Pérez-García et al., RadEdit: stress-testing biomedical vision models via diffusion image "
            "editing, ECCV 2024",
        )
    ]
