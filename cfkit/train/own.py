"""Trains a part of a bundle on a data set of one's own, on one device or many, through accelerate."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from .. import __version__
from ..bundles.bundle import Bundle, load_bundle
from ..bundles.cheff import SCHEDULE
from ..bundles.manifest import bundle_toml, read_manifest, save_part
from ..data.sample import Dataset as Films
from ..data.sample import at_size
from ..errors import UserError
from ..files import write_beside
from ..findings import FINDINGS
from .autoencoder import standardise
from .objectives import Objective, make_objective

HELD_OUT = 10  # one patient in so many is not trained on
NEEDS = {"denoiser": ("autoencoder",), "preview": ("autoencoder", "classifier")}  # what a part is trained on
MEASURED = 256  # most held-out films that figures are of


@dataclass(frozen=True)
class Recipe:
    """How a part is trained.

    Attributes:
        steps: Updates.
        batch_size: Films an update, on each device.
        lr: Peak learning rate of AdamW; warm-up over 100 steps, then a cosine.
        size: Side of a film in pixels.
        width: Multiplies the network's channels.
        precision: "no", "fp16" or "bf16".
        seed: Of the weights, and of what is drawn.
        workers: Processes that read films.
        save_every: Steps between checkpoints.
    """

    steps: int = 2000
    batch_size: int = 16
    lr: float = 1e-3
    size: int = 256
    width: int = 1
    precision: str = "no"
    seed: int = 0
    workers: int = 0
    save_every: int = 200


class Draws(Dataset[tuple[Tensor, Tensor]]):
    """Training films by draw: draw d is film d modulo N of a permutation of its own for each round.

    What a draw gives depends on the seed and d alone, so that a run that was stopped sees what one that was
    not would have seen.
    """

    def __init__(
        self, films: Films, chosen: Sequence[int], objective: Objective, findings: Sequence[str], recipe: Recipe
    ):
        self.films, self.chosen, self.objective = films, list(chosen), objective
        self.findings, self.recipe = tuple(findings), recipe

    def __getitem__(self, draw: int) -> tuple[Tensor, Tensor]:
        rounds, place = divmod(draw, len(self.chosen))
        order = torch.randperm(len(self.chosen), generator=torch.Generator().manual_seed(self.recipe.seed + rounds))
        film, target = read_pair(self.films, self.chosen[int(order[place])], self.findings, self.recipe.size)
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + draw)
        return self.objective.prepare(film, target, generator)


def average(averaged: Any, current: Any, count: Any) -> None:
    """The moving average of the weights, with a decay that rises to 0.998, so that a short training counts too."""
    get_ema_multi_avg_fn(min(0.998, (1.0 + float(count)) / (10.0 + float(count))))(averaged, current, count)


def read_pair(films: Films, index: int, findings: Sequence[str], size: int) -> tuple[Tensor, Tensor]:
    """A film (1, S, S) and what is known of it: (K,) findings, NaN where not, or (14, S, S) structures."""
    sample = films[index]
    film = at_size(sample.image, size)
    if not findings and sample.structures is not None:
        return film, at_size(sample.structures.float(), size)
    return film, torch.tensor([float(sample.findings.get(finding, math.nan)) for finding in findings])


def is_held_out(patient: str) -> bool:
    """Whether a patient is kept for the figures, by name alone."""
    return zlib.crc32(patient.encode()) % HELD_OUT == 0


def train_part(
    part: str, films: Films, out: Path, work: Path, recipe: Recipe, *, report: Callable[[str], None]
) -> None:
    """Trains a part and puts it into the bundle at `out`, with its figures on held-out patients in TRAINING.md.

    Stopped and called again it goes on from the last checkpoint in `work`.

    Raises:
        UserError: The data set has nothing to train it on, or the bundle lacks what it needs.
    """
    accelerate = _import_accelerate()
    entries = films.entries()
    kept = [k for k, entry in enumerate(entries) if not is_held_out(entry.patient)]
    held = [k for k, entry in enumerate(entries) if is_held_out(entry.patient)][:MEASURED]
    if not kept or not held:
        raise UserError(f"--data: {len(entries)} films are too few to train on some and measure on others")
    findings = _findings(part, [entries[k].findings for k in kept])
    if part == "segmenter" and films[0].structures is None:
        raise UserError("train segmenter: the data set has no structures; folders of `cfkit data virtual` have")
    accelerator = accelerate.Accelerator(mixed_precision=recipe.precision)
    torch.manual_seed(recipe.seed)
    bundle = load_bundle(out, device="cpu") if (out / "bundle.toml").is_file() else None
    objective = make_objective(part, findings, bundle, recipe.width)
    averaged = AveragedModel(objective, multi_avg_fn=average, use_buffers=True)
    averaged.to(accelerator.device)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=recipe.lr, betas=(0.9, 0.99), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, recipe.steps))
    draws = Draws(films, kept, objective, findings, recipe)
    model, optimizer = accelerator.prepare(objective, optimizer)
    accelerator.register_for_checkpointing(averaged, schedule)
    decides = {"part": part, "findings": findings, "films": _digest_films([entries[k] for k in kept], bundle, part)}
    start = _resume(accelerator, work, recipe, decides)
    losses: list[float] = []
    for step, (batch, targets) in enumerate(_batches(draws, recipe, accelerator, start), start):
        optimizer.zero_grad(set_to_none=True)
        with accelerator.autocast():
            loss = model(batch.to(accelerator.device), targets.to(accelerator.device))
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        averaged.update_parameters(accelerator.unwrap_model(model))
        losses.append(float(loss.detach()))
        if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.steps:
            _save(accelerator, work, step + 1)
            if accelerator.is_main_process:
                report(f"{part}: step {step + 1}/{recipe.steps}, loss {sum(losses) / len(losses):.4f}")
            losses = []
    if not accelerator.is_main_process:
        return
    trained: Any = averaged.module.cpu().eval().requires_grad_(False)
    if part == "autoencoder":
        pixels = torch.stack([read_pair(films, k, (), recipe.size)[0] for k in kept[:128]])
        standardise(trained.part, (pixels[:, 0] * 255).round().to(torch.uint8))
    pairs = [read_pair(films, k, findings, recipe.size) for k in held]
    with torch.no_grad():
        figures = trained.figures(*(torch.stack(each) for each in zip(*pairs, strict=True)))
    lines = [f"{figure.name}: {figure.value:.4f} on {figure.films} films" for figure in figures]
    _export(part, trained, out, recipe)
    told = f"## {part}\n\n{len(kept)} films, {recipe}, cfkit {__version__}, torch {torch.__version__}\n\n"
    _note(out / "TRAINING.md", told + "".join(f"- {line}\n" for line in lines))
    for line in lines:
        report(f"{part}: {line}")


def _import_accelerate() -> Any:
    try:
        return import_module("accelerate")
    except ImportError:
        raise UserError('training needs accelerate; pip install "cfkit[train]"') from None


def _findings(part: str, known: Sequence[Any]) -> tuple[str, ...]:
    if part not in ("classifier", "judge"):
        return ()
    both = [f for f in FINDINGS if {True, False} <= {told[f] for told in known if f in told}]
    if not both:
        raise UserError(f"train {part}: no finding is both present and absent in the data set; nothing can be learnt")
    return tuple(both)


def _rate(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * min(step / steps, 1.0)))


def _batches(draws: Draws, recipe: Recipe, accelerator: Any, start: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of this process from a step on: processes take turns."""
    mine, all_ = accelerator.process_index, accelerator.num_processes
    size = recipe.batch_size
    batches = [
        list(range((step * all_ + mine) * size, (step * all_ + mine + 1) * size)) for step in range(start, recipe.steps)
    ]
    yield from DataLoader(draws, batch_sampler=batches, num_workers=recipe.workers)


def _digest_films(entries: Sequence[Any], bundle: Bundle | None, part: str) -> str:
    """Of all that a training learns from: films by name and what is known of them, and the parts that it builds on."""
    films = sorted((entry.name, entry.patient, sorted(entry.findings.items())) for entry in entries)
    parts = {} if bundle is None else bundle.config.get("parts", {})
    needed = {name: parts.get(name, {}).get("sha256") for name in NEEDS.get(part, ())}
    return hashlib.sha256(json.dumps([films, needed]).encode()).hexdigest()[:16]


def _resume(accelerator: Any, work: Path, recipe: Recipe, decides: Mapping[str, Any]) -> int:
    """The step of the last whole checkpoint, which is loaded; a kill may have come between its two renames."""
    told = work / "recipe.json"
    own = {key: value for key, value in vars(recipe).items() if key not in ("workers", "save_every")}
    mine = json.dumps({**own, **decides})
    there = (work / name for name in ("checkpoint", "checkpoint.part", "checkpoint.old"))
    folder = next((each for each in there if (each / "step").is_file()), None)
    if folder is None:
        if accelerator.is_main_process:
            work.mkdir(parents=True, exist_ok=True)
            told.write_text(mine)
        return 0
    if not told.is_file() or told.read_text() != mine:
        raise UserError(
            f"--work {work}: holds a training with other options, films or parts; give those again or another folder"
        )
    accelerator.load_state(str(folder))
    return int((folder / "step").read_text())


def _save(accelerator: Any, work: Path, step: int) -> None:
    part, folder, old = work / "checkpoint.part", work / "checkpoint", work / "checkpoint.old"
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (part / "step").unlink(missing_ok=True)  # it says that the rest is whole
    accelerator.wait_for_everyone()
    accelerator.save_state(str(part))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (part / "step").write_text(str(step))
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            os.replace(folder, old)
        os.replace(part, folder)
        shutil.rmtree(old, ignore_errors=True)
    accelerator.wait_for_everyone()


def _export(part: str, objective: Objective, out: Path, recipe: Recipe) -> None:
    out.mkdir(parents=True, exist_ok=True)
    path = out / "bundle.toml"
    config: dict[str, Any] = {
        "name": out.resolve().name,
        "title": "Trained with `cfkit train`",
        "image_size": recipe.size,
    }
    if path.is_file():
        config = read_manifest(path)
    parts = config.setdefault("parts", {})
    file = f"{part}.safetensors"
    parts[part] = {"class": objective.kind, "file": file, "sha256": save_part(objective.part, out / file)}
    parts[part]["config"] = objective.config
    parts.setdefault("schedule", SCHEDULE)
    if part == "judge":
        parts.setdefault("features", {"of": "judge"})
    if part == "preview":
        for method, fast in (("ours", {"decoder": "preview"}), ("gifsplanation", {"search": "preview"})):
            config.setdefault("methods", {}).setdefault(method, {}).setdefault("fast", fast)
    write_beside(path, lambda beside: beside.write_text(bundle_toml(config)))


def _note(path: Path, text: str) -> None:
    before = path.read_text() if path.is_file() else "# How this bundle was trained\n"
    write_beside(path, lambda part: part.write_text(before.rstrip() + "\n\n" + text))
