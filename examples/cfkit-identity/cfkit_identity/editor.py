"""Films as they are, or blurred."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from cfkit import Bundle, Edit, Intervention, UserError
from cfkit.editor import Progress, check_inputs
from cfkit.findings import FINDINGS

from . import IdentityOptions


class IdentityEditor:
    def __init__(self, bundle: Bundle, options: IdentityOptions):
        if options.blur % 2 == 0:
            raise UserError(f"--blur: {options.blur} is even; an odd number is wanted")
        self.bundle, self.options = bundle, options

    def edit(
        self,
        images: Tensor,
        interventions: Sequence[Intervention],
        *,
        masks: Tensor | None = None,
        generators: Sequence[torch.Generator] | None = None,
        progress: Progress | None = None,
    ) -> Edit:
        check_inputs(images, interventions, FINDINGS, masks=masks, generators=generators)
        films = images.to(self.bundle.device)
        half = self.options.blur // 2
        blurred = F.avg_pool2d(F.pad(films, [half] * 4, mode="replicate"), self.options.blur, stride=1)
        edited = blurred if masks is None else blurred.lerp(films, masks.to(films))
        if progress:
            progress(1, 1)
        return Edit(images=edited.clone().clamp(0.0, 1.0), mask=masks)
