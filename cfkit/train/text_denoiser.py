"""Trains the demo bundle's text-conditional denoiser and its text encoder, for RadEdit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from ..bundles.cheff import SCHEDULE as UNCONDITIONAL
from ..bundles.cheff import Denoiser
from ..bundles.kinds import build_part
from ..bundles.networks import FINDINGS
from ..bundles.text_to_image import PooledTextDenoiser, TextToImage
from ..data.virtual.patient import draw_patient
from .denoiser import UNET, draw_timesteps
from .loop import fit

SCHEDULE = {**UNCONDITIONAL, "timestep_spacing": "trailing", "set_alpha_to_one": True}  # RadEdit's grid
WIDTH = 96
PAIRS, VIRTUALS, REALS, WITHOUT_PROMPT = 16, 8, 8, 0.15  # films of each kind in a batch
EARLIEST = 200  # timestep from which a pair is crossed: below it, a film's finding is no longer open
SEVERITIES = ("mild", "moderate", "severe")


def virtual_prompts(seed: int, variant: int) -> tuple[list[str], list[str]]:
    """Prompts that are true of a virtual patient's film: of what is there, and of what is not.

    Args:
        seed: The patient.
        variant: 0 for the film without a finding, 1 to 3 for those with one.

    >>> virtual_prompts(0, 0)
    ([], ['No apparent Atelectasis', 'No apparent Cardiomegaly', 'No apparent Pleural Effusion'])
    """
    absent = [f"No apparent {f}" for k, f in enumerate(FINDINGS, 1) if k != variant]
    if variant == 0:
        return [], absent
    disease = draw_patient(seed).diseases[variant - 1]
    severity = SEVERITIES[min(int(disease.severity * 3), 2)]
    side = {"both": "bilateral"}.get(disease.side, disease.side)
    present = [f"Present {disease.finding}", f"Present {severity} {disease.finding}"]
    if side:
        present += [f"Present {side} {disease.finding}", f"Present {severity} {side} {disease.finding}"]
    return present, absent


def real_prompts(findings: np.ndarray) -> tuple[list[str], list[str]]:
    """Prompts that are true of a real film with labels (3,)."""
    present = [f"Present {f}" for f, there in zip(FINDINGS, findings, strict=True) if there > 0.5]
    return present, [f"No apparent {f}" for f, there in zip(FINDINGS, findings, strict=True) if there <= 0.5]


def draw_prompt(prompts: tuple[list[str], list[str]], generator: torch.Generator) -> str:
    """One of a film's prompts: mostly what is there, the plain form as often as all the others."""
    present, absent = prompts

    def uniform() -> float:
        return float(torch.rand(1, generator=generator))

    if uniform() < WITHOUT_PROMPT:
        return ""
    chosen = present if present and (not absent or uniform() < 0.85) else absent
    if chosen is present:
        return draw_present(present, generator)
    return chosen[int(uniform() * len(chosen))]


def draw_present(present: list[str], generator: torch.Generator) -> str:
    """One of the prompts of what is there, the plain form, the first, as often as all others."""
    plain, which = torch.rand(2, generator=generator).tolist()
    return present[0] if plain < 0.5 else present[int(which * len(present))]


def train_text_denoiser(
    virtual: Tensor,
    real: Tensor,
    virtual_texts: Sequence[tuple[list[str], list[str]]],
    real_texts: Sequence[tuple[list[str], list[str]]],
    start: Denoiser,
    *,
    path: Path,
    steps: int = 500,
    report: Callable[[str], None] = print,
) -> TextToImage:
    """Denoising with true prompts, one in seven left out, so that guidance has both.

    What a prompt tells about a whole film is little, and from films alone a small network learns to do
    without it. So half of a batch are crossed pairs: a virtual patient's noised film, told the prompt
    of the same patient's other film, whose clean latents are the target.

    Args:
        virtual: Latents of virtual films, (4 P, C, h, w) float16: each patient without a finding, then with each.
        real: Latents of real films.
        virtual_texts: Prompts of each, as from `virtual_prompts`.
        real_texts: The same of the real films.
        start: The unconditional denoiser, which is the starting point.
    """
    torch.manual_seed(6)
    alphas = DDIMScheduler.from_config(SCHEDULE).alphas_cumprod
    films = len(FINDINGS) + 1

    def loss(module: nn.Module, step: int, generator: torch.Generator) -> Tensor:
        assert isinstance(module, TextToImage)
        chosen = torch.randint(len(virtual), (VIRTUALS,), generator=generator)
        chosen_real = torch.randint(len(real), (REALS,), generator=generator)
        patient = torch.randint(len(virtual) // films, (PAIRS,), generator=generator).tolist()
        variants = [1 + k % len(FINDINGS) for k in range(PAIRS)]
        adds = [k // len(FINDINGS) % 2 == 0 for k in range(PAIRS)]
        source = [films * p + (0 if add else v) for p, v, add in zip(patient, variants, adds, strict=True)]
        target = [films * p + (v if add else 0) for p, v, add in zip(patient, variants, adds, strict=True)]
        clean = torch.cat([virtual[source], virtual[chosen], real[chosen_real]]).float()
        wanted = torch.cat([virtual[target], virtual[chosen], real[chosen_real]]).float()
        texts = [virtual_texts[k] for k in chosen.tolist()] + [real_texts[k] for k in chosen_real.tolist()]
        prompts = [
            draw_present(virtual_texts[k][0], generator) if add else f"No apparent {FINDINGS[v - 1]}"
            for k, v, add in zip(target, variants, adds, strict=True)
        ] + [draw_prompt(text, generator) for text in texts]
        noise = torch.randn(clean.shape, generator=generator)
        timesteps = torch.cat([draw_timesteps(PAIRS, generator, EARLIEST), draw_timesteps(VIRTUALS + REALS, generator)])
        alpha = alphas[timesteps].view(-1, 1, 1, 1)
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        noise = (noisy - alpha.sqrt() * wanted) / (1 - alpha).sqrt()  # what leads to the wanted film
        context = module.text_encoder(prompts)
        with torch.autocast("cpu", torch.bfloat16):
            predicted = module.denoiser(noisy, timesteps, context)
        return F.mse_loss(predicted.float(), noise)

    module = build_part("demo-text-to-image", {"width": WIDTH, "unet": UNET})
    assert isinstance(module, TextToImage) and isinstance(module.denoiser, PooledTextDenoiser)
    module.denoiser.unet.load_state_dict(start.unet.state_dict())
    return fit(module, loss, steps=steps, path=path, lr=6e-4, average=0.99, seed=6, report=report)  # type: ignore[return-value]
